"""The variants of thesis section 5.3, which leave out one idea each, as the same model with one part exchanged.

*Unfactorized*: one multilayer perceptron on the one-hot agent, the action and the observation, with 256 hidden units.
Its first layer is a sum of three linear encoders, and `Perceptron` takes the place of the product of factors.
*Unpersonalized*: one simulator for all agents; trained as a population of one, then shared by all.
"""

from dataclasses import replace

import torch
from torch import Tensor, nn

from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.encoders import ACTIVATIONS, EnsembleLinear, EnsembleMLP
from persim_gym.simulator.model.ensemble import FactoredEnsemble

HIDDEN = 256  # thesis section 5.3


def build_model(config: ModelConfig, seed: int = 0) -> FactoredEnsemble:
    """The model that a config describes, of any variant."""
    if config.variant != "unfactorized":
        return FactoredEnsemble(config, seed)
    config = replace(config, rank=HIDDEN, state_layers=(HIDDEN,), action_layers=())
    model = FactoredEnsemble(config, seed)
    generator = torch.Generator().manual_seed(seed)
    model.state_encoder = EnsembleMLP(config.members, (config.obs_dim, HIDDEN), config.activation, generator)
    model.head = Perceptron(config, generator)
    # One layer of N + A + D inputs, drawn as torch.nn.Linear draws it.
    bound = (config.n_agents + (config.n_actions or config.action_dim) + config.obs_dim) ** -0.5
    with torch.no_grad():
        for encoder in (model.agent_encoder, model.action_encoder, model.state_encoder):
            for parameter in encoder.parameters():
                parameter.uniform_(-bound, bound, generator=generator)
        for encoder in (model.agent_encoder, model.action_encoder):  # The layer has one bias, the state encoder's.
            for name, parameter in encoder.named_parameters():
                if name.endswith("bias"):
                    parameter.zero_()
    return model


def population_of_one(config: ModelConfig) -> ModelConfig:
    """The sizes that an unpersonalized model is trained in."""
    return replace(config, n_agents=1)


def shared_by_all(model: FactoredEnsemble, n_agents: int) -> FactoredEnsemble:
    """An unpersonalized model of one agent as a model of `n_agents` agents with the same latent factor."""
    shared = FactoredEnsemble(replace(model.config, n_agents=n_agents))
    state = model.state_dict()
    factor = state["agent_encoder.factor"]
    state["agent_encoder.factor"] = factor.expand(-1, n_agents, -1).contiguous()
    shared.load_state_dict(state)
    return shared


class Perceptron(nn.Module):
    """Hidden activation and output layer of the unfactorized variant: [M, B, 256] to [M, B, D + E]."""

    def __init__(self, config: ModelConfig, generator: torch.Generator) -> None:
        """Draws as torch.nn.Linear does."""
        super().__init__()
        self.output = EnsembleLinear(config.members, HIDDEN, config.out_dim, generator)
        self.activation = ACTIVATIONS[config.activation]

    def forward(self, before: Tensor) -> Tensor:
        """Applies the activation and the output layer to the sum of the encoders."""
        return self.output(self.activation(before))

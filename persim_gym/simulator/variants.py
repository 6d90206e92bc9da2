"""The variants of thesis section 5.3, which leave out one idea each, as the same model with one part exchanged.

*Unfactorized*: one multilayer perceptron on the one-hot agent, the action and the observation, with 256 hidden units.
Its first layer is a sum of three linear encoders, and `Perceptron` takes the place of the product of factors.
*Unpersonalized*: one simulator for all agents; trained as a population of one, then shared by all.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from persim_gym.simulator.dynamics import checked_actions
from persim_gym.simulator.encoders import ACTIVATIONS, EnsembleLinear, EnsembleMLP
from persim_gym.simulator.model import FactoredEnsemble
from persim_gym.simulator.shape import ModelShape
from persim_gym.simulator.walls import walls_of

HIDDEN = 256  # thesis section 5.3


def model_of(shape: ModelShape, seed: int = 0) -> FactoredEnsemble:
    """The model that a shape describes, of any variant."""
    if shape.variant != "unfactorized":
        return FactoredEnsemble(shape, seed)
    shape = replace(shape, rank=HIDDEN, state_layers=(HIDDEN,), action_layers=())
    model = FactoredEnsemble(shape, seed)
    generator = torch.Generator().manual_seed(seed)
    model.state_encoder = EnsembleMLP(shape.members, (shape.obs_dim, HIDDEN), shape.activation, generator)
    model.head = Perceptron(shape, generator)
    # One layer of N + A + D inputs, drawn as torch.nn.Linear draws it.
    bound = (shape.n_agents + (shape.n_actions or shape.action_dim) + shape.obs_dim) ** -0.5
    with torch.no_grad():
        for encoder in (model.agent_encoder, model.action_encoder, model.state_encoder):
            for parameter in encoder.parameters():
                parameter.uniform_(-bound, bound, generator=generator)
        for encoder in (model.agent_encoder, model.action_encoder):  # the layer has one bias, the state encoder's
            for name, parameter in encoder.named_parameters():
                if name.endswith("bias"):
                    parameter.zero_()
    return model


def population_of_one(shape: ModelShape) -> ModelShape:
    """The shape that an unpersonalized model is trained in."""
    return replace(shape, n_agents=1)


def shared_by_all(model: FactoredEnsemble, n_agents: int) -> FactoredEnsemble:
    """An unpersonalized model of one agent as a model of `n_agents` agents with the same latent factor."""
    shared = FactoredEnsemble(replace(model.shape, n_agents=n_agents))
    state = model.state_dict()
    factor = state["agent_encoder.factor"]
    state["agent_encoder.factor"] = factor.expand(-1, n_agents, -1).contiguous()
    shared.load_state_dict(state)
    return shared


class Perceptron(nn.Module):
    """Hidden activation and output layer of the unfactorized variant: [M, B, 256] to [M, B, D + E]."""

    def __init__(self, shape: ModelShape, generator: torch.Generator) -> None:
        """Draws as torch.nn.Linear does."""
        super().__init__()
        self.output = EnsembleLinear(shape.members, HIDDEN, shape.out_dim, generator)
        self.activation = ACTIVATIONS[shape.activation]

    def forward(self, before: Tensor) -> Tensor:
        """Applies the activation and the output layer to the sum of the encoders."""
        return self.output(self.activation(before))

    def dynamics(self, model: FactoredEnsemble, agent: int) -> "PerceptronDynamics":
        """The perceptron bound to one agent."""
        return PerceptronDynamics(model, agent)


class PerceptronDynamics:
    """A `Dynamics` of one agent of the unfactorized variant; as `AgentDynamics`, NumPy or torch in and out.

    Attributes:
        members: Ensemble size M.
    """

    def __init__(self, model: FactoredEnsemble, agent: int) -> None:
        """Binds a model to an agent."""
        self.members = model.shape.members
        self._model, self._walls = model, walls_of(model.walls)
        with torch.no_grad():
            self._factor = model.agent_encoder(torch.tensor([agent], device=model.obs_mean.device))  # [M, 1, R]

    @torch.no_grad()
    def __call__(self, obs: Any, action: Any) -> Any:
        """Next observations, [M, C, D + E].

        Args:
            obs: [M, C, D], or [C, D] for all members the same; columns past D are ignored.
            action: int64 [C] or float32 [C, A]; the same for all members.

        Raises:
            ValueError: If a discrete action is not one of the model's.
        """
        if isinstance(obs, Tensor):
            return self._model.predict_with(self._factor, obs, action, self._walls)
        n_actions, device = self._model.shape.n_actions, self._factor.device
        if n_actions:
            action = checked_actions(action, np.shape(obs)[-2], n_actions)
        now = torch.tensor(np.asarray(obs), dtype=torch.float32, device=device)
        action = torch.as_tensor(action, dtype=torch.int64 if n_actions else torch.float32, device=device)
        following = self._model.predict_with(self._factor, now, action, self._walls)
        result: NDArray[np.float32] = following.cpu().numpy()
        return result

"""The model before its first step: drawn weights, and what data say of their own scale."""

import torch
from torch import Tensor

from persim_gym.simulator.model.ablations import build_model, population_of_one
from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.encoders import AgentEncoder
from persim_gym.simulator.model.ensemble import SMALLEST_STD, FactoredEnsemble
from persim_gym.simulator.training.batches import moments
from persim_gym.simulator.training.find_walls import find_walls
from persim_gym.simulator.training.problem import Problem
from persim_gym.simulator.training.recipe import TrainingRecipe
from persim_gym.transitions import LoggedData


def initial_model(
    data: LoggedData, recipe: TrainingRecipe, problem: Problem, variant: str, seed: int
) -> FactoredEnsemble:
    """The model before its first step: drawn weights; scales, bounds and walls of the data."""
    config = ModelConfig(
        n_agents=data.n_agents,
        obs_dim=data.obs_dim,
        n_actions=problem.n_actions,
        action_dim=data.action_dim,
        rank=recipe.rank,
        members=recipe.members,
        state_layers=recipe.state_layers,
        action_layers=() if problem.n_actions else recipe.action_layers,
        activation=recipe.activation,
        extra_dim=2 if problem.learn_task else 0,
        variant=variant,
        context=problem.context,
    )
    model = build_model(population_of_one(config) if variant == "unpersonalized" else config, seed)
    bounds, learned = problem.bounds, config.learned_dim
    if bounds is not None:
        model.obs_low[:learned].copy_(torch.as_tensor(bounds[0][:learned]))
        model.obs_high[:learned].copy_(torch.as_tensor(bounds[1][:learned]))
    if recipe.walls and not problem.learn_task and not problem.context:
        model.walls.copy_(find_walls(data))
    encoder = model.agent_encoder
    assert isinstance(encoder, AgentEncoder)
    with torch.no_grad():
        if model.head is None:
            _start_agents(encoder, recipe, seed)
        scales = moments(data, learned)
        obs_unit = _units(*scales.obs)
        model.logged_std.copy_(obs_unit[:learned])
        if recipe.standardize:
            pairs = {"obs": (scales.obs[0], obs_unit), "delta": scales.target}
            if scales.action is not None:
                pairs["action"] = scales.action[0], _units(*scales.action)
            for name, (mean, std) in pairs.items():
                size = getattr(model, f"{name}_mean").numel()
                getattr(model, f"{name}_mean").copy_(mean[:size])
                getattr(model, f"{name}_std").copy_(std[:size].clamp_min(SMALLEST_STD))
    return model


def _units(mean: Tensor, std: Tensor) -> Tensor:
    """Units of inputs: standard deviations, but 1 for those that are constant to about what float32 resolves.

    In a tiny unit their rounding would drown all other inputs, and stand for errors and disagreement of any size.
    """
    return torch.where(std > torch.clamp(1e-6 * mean.abs(), min=SMALLEST_STD), std, 1.0)


def _start_agents(encoder: AgentEncoder, recipe: TrainingRecipe, seed: int) -> None:
    if recipe.agent_mean is not None:
        encoder.bias.fill_(recipe.agent_mean)
    if recipe.agent_std is not None:
        generator = torch.Generator().manual_seed(seed + 1)
        encoder.factor.copy_(
            torch.randn(encoder.factor.shape, generator=generator, dtype=torch.float32) * recipe.agent_std
        )

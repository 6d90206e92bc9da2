"""Learners of logging policies, Stable-Baselines3's: made from a recipe, kept on disk, read out as layers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import torch

from persim_gym.datasets.behavior.policies import NetworkLayers
from persim_gym.envs.behavior import BehaviorConfig
from persim_gym.envs.hetero import domain_of
from persim_gym.extras import brought_by
from persim_gym.storage import reading, replacing

with brought_by("sb3", "training logging policies needs Stable-Baselines3"):
    from stable_baselines3 import DQN, SAC, TD3
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.noise import NormalActionNoise

Learner: TypeAlias = DQN | SAC | TD3

_COUNTERS = ("num_timesteps", "_n_updates", "_n_calls")
_BUFFER_ARRAYS = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")


def make_learner(recipe: BehaviorConfig, domain: str, covariates: Mapping[str, float], seed: int) -> Learner:
    """An untrained learner in the true environment of one agent."""
    kinds: dict[str, type[Learner]] = {"DQN": DQN, "TD3": TD3, "SAC": SAC}
    if recipe.algorithm not in kinds:
        raise ValueError(f"unknown algorithm {recipe.algorithm!r}; known: {', '.join(kinds)}")
    named: dict[str, Any] = dict(covariates)
    env = gym.make(f"persim_gym:{domain_of(domain).env_id}", **named)
    keywords: dict[str, Any] = {**recipe.hyperparameters, "seed": seed, "device": "cpu"}
    if recipe.algorithm == "TD3" and recipe.action_noise is not None:
        zero = np.zeros(gym.spaces.flatdim(domain_of(domain).action_space), dtype=np.float32)
        keywords["action_noise"] = NormalActionNoise(zero, zero + recipe.action_noise)
    learner = kinds[recipe.algorithm]("MlpPolicy", env, **keywords)
    # A logger of its own would leave a folder in the temporary one.
    learner.set_logger(Logger(folder=None, output_formats=[]))
    return learner


def greedy_layers(learner: Learner) -> NetworkLayers:
    """Weights of a learner's greedy policy: the Q network (DQN), the actor (TD3) or the actor's mean (SAC)."""
    if isinstance(learner, DQN):
        network = learner.policy.q_net.q_net
    elif isinstance(learner, TD3):
        network = learner.policy.actor.mu
    else:
        network = torch.nn.Sequential(*learner.policy.actor.latent_pi, learner.policy.actor.mu)
    return tuple(
        (layer.weight.detach().numpy().copy(), layer.bias.detach().numpy().copy())
        for layer in network
        if isinstance(layer, torch.nn.Linear)
    )


def save_checkpoint(learner: Learner, seconds: float, path: Path) -> None:
    """Writes all that training needs to go on; the file is complete or absent."""
    buffer = learner.replay_buffer
    assert buffer is not None
    size = buffer.buffer_size if buffer.full else buffer.pos
    state = {
        "parameters": learner.get_parameters(),
        "buffer": {name: torch.from_numpy(getattr(buffer, name)[:size].copy()) for name in _BUFFER_ARRAYS},
        "position": buffer.pos,
        "full": buffer.full,
        "counters": {name: getattr(learner, name, 0) for name in _COUNTERS},
        "seconds": seconds,
    }
    if (
        isinstance(learner, SAC) and learner.log_ent_coef is not None
    ):  # Stable-Baselines3 does not count it among the parameters.
        state["log_ent_coef"] = learner.log_ent_coef.detach().clone()
    with replacing(path) as new:
        torch.save(state, new)


def load_checkpoint(learner: Learner, seed: int, path: Path) -> float:
    """Continues a learner from a checkpoint; the environment starts a new episode.

    Args:
        learner: A fresh learner of the same recipe.
        seed: Seed of the training; exploration goes on from a stream of its own.
        path: The checkpoint. Read as plain tensors, no code in it is run.

    Returns:
        Seconds of training so far.

    Raises:
        ValueError: If it cannot be read, or is of another learner.
    """
    with reading(path, "remove it to start anew"):
        state = torch.load(path, weights_only=True)
        buffer = learner.replay_buffer
        assert buffer is not None
        if set(state["buffer"]) != set(_BUFFER_ARRAYS) or set(state["counters"]) != set(_COUNTERS):
            raise ValueError("it is of another version")
        numbers = (state["position"], *state["counters"].values())
        if not all(type(n) is int and n >= 0 for n in numbers) or state["position"] >= buffer.buffer_size:
            raise ValueError("it counts what cannot be")
        learner.set_parameters(state["parameters"])
        for name, values in state["buffer"].items():
            getattr(buffer, name)[: len(values)] = values.numpy()
        buffer.pos, buffer.full = state["position"], bool(state["full"])
        for name, value in state["counters"].items():
            setattr(learner, name, value)
        if isinstance(learner, SAC) and learner.log_ent_coef is not None:
            learner.log_ent_coef.data.copy_(state["log_ent_coef"])
        learner.set_random_seed(seed + learner.num_timesteps)
        return float(state["seconds"])

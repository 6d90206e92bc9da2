"""A system with a hidden parameter, and context-aware models that learn it in a second."""

from dataclasses import replace

import numpy as np
import torch

from persim_gym.baselines.cadm.config import CadmSettings, CadmShape
from persim_gym.baselines.cadm.model import CadmModel
from persim_gym.task import Task, never
from persim_gym.transitions import Transitions

SMALL = CadmSettings(
    context=2,
    context_layers=(16,),
    layers=(32,),
    history=4,
    future=3,
    members=2,
    particles=4,
    batch=16,
    steps=20,
    check_every=5,
    validation=0.2,
)

TASK = Task(lambda obs, action, next_obs: next_obs, never)


def gains(agents=20, steps=15, seed=0):
    """Logged steps of agents that move by their own gain times the action: x' = x + gain * a, gain in (0.5, 2)."""
    rng = np.random.default_rng(seed)
    gain = rng.uniform(0.5, 2.0, agents)
    agent = np.repeat(np.arange(agents), steps)
    action = rng.uniform(-1, 1, (agents * steps, 1)).astype(np.float32)
    change = gain[agent, None] * action
    obs = np.concatenate([np.cumsum(part, 0) - part for part in np.split(change, agents)])
    count = len(agent)
    return Transitions(
        agent=agent,
        obs=obs,
        action=action,
        reward=np.zeros(count),
        next_obs=obs + change,
        terminated=np.zeros(count, bool),
        trajectory=agent,
        n_agents=agents,
    )


def random_cadm(*, obs_dim=3, n_actions=2, action_dim=0, probabilistic=True, seed=0, **changes):
    """A model of random weights."""
    settings = replace(SMALL, **changes)
    members = settings.members if probabilistic else 1
    model = CadmModel(CadmShape(obs_dim, n_actions, action_dim, members, probabilistic), settings, seed)
    return model.eval().requires_grad_(False)


def constant_cadm(means, log_variance):
    """A model whose member m predicts a change of means[m] in every component, whatever it sees."""
    model = random_cadm(members=len(means), particles=2 * len(means))
    d = model.shape.obs_dim
    for network in (model.forward_model, model.encoder):
        for p in network.parameters():
            p.zero_()
    bias = model.forward_model.layers[-1].bias
    for m, mean in enumerate(means):
        bias[m, 0, :d] = mean
    bias[..., d:] = log_variance
    model.log_variance_high.fill_(50.0)
    model.log_variance_low.fill_(-50.0)
    return model


def same_weights(one, other):
    """Whether two models are the same bit for bit."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)

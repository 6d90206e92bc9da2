"""The sections of agents, of every kind of action and observation."""

import re
from html import unescape
from xml.etree import ElementTree

import numpy as np
import pytest
from support.domains import every_domain, random_actions, states_on_the_way
from support.simulators import save_model

from persim_gym.actions import ActionLayout
from persim_gym.labels import Labels
from persim_gym.reports.about import MAX_PANELS
from persim_gym.reports.agents import agent_part
from persim_gym.simulator.model.ablations import build_model
from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.registry import load_simulator
from persim_gym.spec import EnvironmentSpec, flat_box
from persim_gym.transitions import Transitions

STEPS = 12


def walked(domain) -> Transitions:
    """Random episodes of the first three agents, which do not end."""
    states = states_on_the_way(domain, STEPS + 1)[:, :3]
    obs = np.stack([domain.observe(state) for state in states], axis=1).astype(np.float32)  # [3, T + 1, D]
    count = 3 * STEPS
    return Transitions(
        agent=np.repeat(np.arange(3), STEPS),
        obs=obs[:, :-1].reshape(count, -1),
        action=random_actions(domain, (count,)),
        reward=np.zeros(count, dtype=np.float32),
        next_obs=obs[:, 1:].reshape(count, -1),
        terminated=np.zeros(count, dtype=np.bool_),
        trajectory=np.repeat(np.arange(3), STEPS),
        n_agents=3,
        source="walked",
    )


@every_domain
def test_every_domain_has_logs_and_rollouts_under_its_own_names(domain, home):
    data = walked(domain)
    n_actions = int(domain.action_space.n) if data.action.ndim == 1 else 0
    shape = ModelConfig(3, data.obs_dim, n_actions, data.action_dim, 2, 2, (8,), () if n_actions else (8,))
    model = FactoredEnsemble(shape, seed=0)
    simulator = load_simulator(str(save_model(model, name=f"{domain.name}/none-v0", domain=domain.name, data=data)))
    part = agent_part(simulator, 1, data, None, seed=0)
    titles = [unescape(title) for title in re.findall(r"<figcaption>(.*?)</figcaption>", part)]
    shown = list(domain.observation_names[:MAX_PANELS])
    assert titles[: len(shown)] == titles[-len(shown) :] == shown  # of the log, and of what would be
    assert "logged actions" in part and "random actions" in part and "constant action: " in part
    for covariate in domain.covariates:
        assert covariate.name in part
    for picture in re.findall(r"<svg .*?</svg>", part, re.S):
        assert len(ElementTree.fromstring(picture))


@pytest.mark.parametrize("variant", ["unfactorized", "unpersonalized"])
def test_variants_without_factors_have_sections_too(variant, cars, home):
    shape = ModelConfig(6, 2, 3, 0, 3, 2, (8,), variant=variant)
    simulator = load_simulator(
        str(save_model(build_model(shape), name="mountaincar/x-v0", domain="mountaincar", data=cars))
    )
    part = agent_part(simulator, 5, cars, None, seed=0)
    assert "100 transitions in 1 trajectory" in part and "random actions" in part


def test_of_choices_and_amounts_together_each_has_a_picture(home):
    rng = np.random.default_rng(0)
    seen = np.concatenate([np.eye(3)[rng.integers(3, size=STEPS)], rng.uniform(0, 9, (STEPS, 1))], axis=1)
    obs = rng.normal(size=(STEPS + 1, 2))
    data = Transitions(
        agent=np.zeros(STEPS, dtype=np.int64),
        obs=obs[:-1],
        action=seen.astype(np.float32),
        reward=np.zeros(STEPS),
        next_obs=obs[1:],
        terminated=np.zeros(STEPS, dtype=np.bool_),
        trajectory=np.zeros(STEPS, dtype=np.int64),
        n_agents=1,
        source="mixed",
    )
    labels = Labels(actions=("valve=shut", "valve=half", "valve=open", "dose"), units={"dose": "mg"})
    action = ActionLayout((3, 0)).space([0, 0, 0, 0.0], [0, 0, 0, 9.0])
    spec = EnvironmentSpec(flat_box([-5.0] * 2, [5.0] * 2), action, 20, labels=labels)
    model = FactoredEnsemble(ModelConfig(1, 2, 0, 4, 2, 2, (8,), (8,), extra_dim=2), seed=0)
    simulator = load_simulator(str(save_model(model, name="my/mixed-v0", domain="", data=data, spec=spec)))
    part = agent_part(simulator, 0, data, None, seed=0)
    titles = re.findall(r"<figcaption>(.*?)</figcaption>", part)
    assert titles[2:5] == ["0 valve=shut; 1 valve=half; 2 valve=open", "dose (mg)", "reward"]
    assert "constant action: valve=" in part

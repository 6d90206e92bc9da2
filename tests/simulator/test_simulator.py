"""A simulator takes in new agents, keeps them on disk, and says what it knows of them."""

import json
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from support.populations import stranger_of
from support.simulators import believed
from support.walls import RECIPE, save_pucks

from persim_gym.labels import Labels
from persim_gym.simulator.inference.posterior import from_tensors, to_tensors
from persim_gym.simulator.inference.regression import factor_posterior
from persim_gym.simulator.load import read_simulator
from persim_gym.simulator.registry import load_simulator
from persim_gym.simulator.training.trainer import fit_ensemble
from persim_gym.storage import README, WEIGHTS

# --- online ---------------------------------------------------------------------------------------------------------


def test_transitions_in_double_precision_personalize_too(simulator, cars):
    data = stranger_of(cars)
    double = replace(data, obs=data.obs.astype(np.float64), next_obs=data.next_obs.astype(np.float64))
    one, other = (simulator.personalize(some) for some in (double, data))
    np.testing.assert_array_equal(one.beliefs.mean, other.beliefs.mean)
    np.testing.assert_array_equal(one.dynamics(5).factor, other.dynamics(5).factor)


# --- new agents and the polish --------------------------------------------------------------------------------------


def test_new_agents_come_after_the_known_ones_who_stay_as_they_are(simulator, cars):
    data = replace(cars.select(cars.agent >= 4), source="new")  # agents 4 and 5 of another fleet
    bigger = simulator.personalize(data)
    posterior = believed(simulator, data)
    assert bigger.model.config.n_agents == bigger.card.shape["n_agents"] == 7
    assert bigger.new_agents == range(5, 7) and bigger.beliefs.n_agents == 7
    np.testing.assert_allclose(bigger.dynamics(6).factor, posterior.mean[:, 1], rtol=1e-5, atol=1e-6)
    for agent in range(5):
        np.testing.assert_array_equal(bigger.dynamics(agent).factor, simulator.dynamics(agent).factor)
    assert simulator.model.config.n_agents == 5


def test_personalized_simulators_survive_files(simulator, cars, tmp_path):
    bigger = simulator.personalize(stranger_of(cars))
    bigger.save(tmp_path / "bigger")
    loaded = load_simulator(str(tmp_path / "bigger"))
    for name, value in bigger.model.state_dict().items():
        np.testing.assert_array_equal(value, loaded.model.state_dict()[name])
    for name, value in to_tensors(bigger.beliefs).items():
        np.testing.assert_array_equal(value, to_tensors(loaded.beliefs)[name])
    assert from_tensors(to_tensors(loaded.beliefs)).n_agents == 6
    loaded.save(tmp_path / "again")
    assert (tmp_path / "again" / WEIGHTS).read_bytes() == (tmp_path / "bigger" / WEIGHTS).read_bytes()


def test_the_card_holds_what_is_known_of_the_agents(simulator, cars, tmp_path):
    bigger = simulator.personalize(stranger_of(cars).select(np.arange(100) < 7))
    bigger.save(tmp_path / "bigger")
    loaded = load_simulator(str(tmp_path / "bigger"))
    left = [loaded.beliefs.undetermined(agent) for agent in range(6)]
    assert loaded.card.agents == {
        "agents": 6,
        "transitions_seen": [7, 100, 100],
        "directions_left_open": pytest.approx([min(left), np.median(left), max(left)], rel=1e-4),
    }
    assert "| known of an agent | 100 transitions (median; 7 to 100), which leave" in (
        tmp_path / "bigger" / README
    ).read_text(encoding="utf-8")


def test_it_is_printed_in_one_line(simulator):
    text = repr(simulator)
    assert "\n" not in text and len(text) < 120
    assert simulator.card.name in text and f"rank {simulator.model.config.rank}" in text


def test_data_of_another_domain_are_refused(simulator, cars, pushes):
    with pytest.raises(ValueError, match="pushes has 3 observations, the simulator 2"):
        simulator.personalize(pushes)
    with pytest.raises(ValueError, match="actions are not those of the simulator, 0–2"):
        simulator.personalize(replace(cars, action=cars.action + 1))


def test_a_simulator_without_a_prior_says_so(simulator, cars):
    with pytest.raises(ValueError, match="train it again"):
        replace(simulator, beliefs=None).personalize(cars)


def test_new_agents_that_go_past_a_wall_are_refused(pucks, tmp_path):
    model = fit_ensemble(pucks, RECIPE, n_actions=2, progress=False).requires_grad_(False)
    folder = save_pucks(model, tmp_path / "pucks", factor_posterior(model, pucks, clips=False))
    simulator = load_simulator(str(folder))
    few = pucks.select(pucks.agent == 2)
    simulator.personalize(few)
    with pytest.raises(ValueError, match="component 0 of the observations goes past -1, where all agents"):
        simulator.personalize(replace(few, next_obs=few.next_obs * 1.5))


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def named(simulator, tmp_path):
    """The small simulator, on disk, its five agents named."""
    agents = tuple(f"M-{n:03d}" for n in range(5))
    labels = Labels(agents=agents, observations=("position", "speed"), units={"speed": "m/s"})
    card = replace(simulator.card, interface=replace(simulator.spec, labels=labels).to_json())
    return load_simulator(replace(simulator, card=card).save(tmp_path / "named"))


def test_agents_may_be_called_by_their_names(named, simulator):
    obs, action = np.array([-0.5, 0.0], dtype=np.float32), np.array(2)
    np.testing.assert_array_equal(named.dynamics("M-003")(obs, action), simulator.dynamics(3)(obs, action))
    assert named.online("M-003").factor.equal(simulator.online(3).factor)
    env = gym.make("persim_gym:PersimEnv-v0", agent="M-003", simulator=str(named.folder))
    assert env.unwrapped.agent == 3
    rows = gym.make_vec("persim_gym:PersimEnv-v0", num_envs=2, agents=["M-004", 1], simulator=str(named.folder))
    assert rows.agents == [4, 1]
    with pytest.raises(ValueError, match="agent M-3 is none of these 5 agents"):
        named.dynamics("M-3")
    with pytest.raises(ValueError, match=r"agent 5 is not in this simulator \(5 agents: 0–4\)"):
        named.dynamics(5)
    page = (named.folder / "README.md").read_text(encoding="utf-8")
    assert "5 (M-000, M-001, M-002, M-003, M-004)" in page and "speed (m/s)" in page and 'agent="M-000"' in page


def test_added_agents_bring_their_names(named, cars, tmp_path):
    new = replace(cars.select(cars.agent == 5), agent=np.full((cars.agent == 5).sum(), 2), n_agents=3)
    bigger = load_simulator(named.personalize(new, ["a", "b", "M-600"]).save(tmp_path / "bigger"))
    assert bigger.labels.agents[5:] == ("M-600",) and bigger.agent_number("M-600") == 5
    assert named.personalize(new).labels.agents[5:] == ("5",)
    with pytest.raises(ValueError, match="there is an agent M-001 already"):
        named.personalize(new, ["a", "b", "M-001"])


def test_a_card_with_names_of_other_agents_is_refused(named):
    card = json.loads((named.folder / "card.json").read_text())
    card["interface"]["labels"]["agents"] = ["a", "b"]
    (named.folder / "card.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match="2 different names of agents, of which there are 5"):
        read_simulator(named.folder)

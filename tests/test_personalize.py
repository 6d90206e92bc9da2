"""New agents in closed form: against brute force, against synthetic truth, and as files and environments."""

import warnings
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from conftest import TINY
from minari.data_collector import EpisodeBuffer
from typer.testing import CliRunner

from persim_gym.cli import app
from persim_gym.envs import DOMAINS
from persim_gym.planning import MPC, RandomShooting
from persim_gym.planning.online_mpc import OnlineMPC
from persim_gym.simulator.dynamics.agent import AgentDynamics
from persim_gym.simulator.dynamics.batch import BatchDynamics
from persim_gym.simulator.dynamics.bind import bind_agent
from persim_gym.simulator.dynamics.online import OnlineDynamics
from persim_gym.simulator.inference.personalize import polished, with_factors
from persim_gym.simulator.inference.posterior import (
    BANDWIDTHS,
    FactorPosterior,
    FactorPrior,
    from_tensors,
    shrunk_covariance,
    to_tensors,
)
from persim_gym.simulator.inference.regression import factor_posterior, features, gather_statistics, residual_variance
from persim_gym.simulator.inference.sufficient_statistics import PackedStatistics, SufficientStatistics
from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.registry import load_simulator
from persim_gym.simulator.training.trainer import fit_ensemble
from persim_gym.storage import README, WEIGHTS
from persim_gym.transitions import Transitions
from persim_gym.workflows.train import train_simulator

DISCRETE = ModelConfig(n_agents=40, obs_dim=3, n_actions=2, action_dim=0, rank=4, members=2, state_layers=(16,))
CONTINUOUS = ModelConfig(
    n_agents=40, obs_dim=3, n_actions=0, action_dim=2, rank=4, members=2, state_layers=(16, 8), action_layers=(8,)
)
every_shape = pytest.mark.parametrize("shape", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])


def population(shape: ModelConfig) -> FactoredEnsemble:
    """A model whose agents differ, about 1 apart in each direction."""
    model = FactoredEnsemble(shape, seed=3).eval().requires_grad_(False)
    return with_factors(model, torch.from_numpy(np.random.default_rng(0).normal(size=(2, shape.n_agents, 4))))


def logged(model: FactoredEnsemble, agents: list[int], each: int, noise: float = 0.0, member: int = 0) -> Transitions:
    """Transitions that one member itself makes, with Gaussian noise."""
    s, rng = model.config, np.random.default_rng(1)
    agent = np.repeat(agents, each)
    obs = rng.normal(size=(len(agent), s.obs_dim)).astype(np.float32)
    action = (
        rng.integers(s.n_actions, size=len(agent))
        if s.n_actions
        else rng.uniform(-1, 1, (len(agent), s.action_dim)).astype(np.float32)
    )
    with torch.no_grad():
        following = model.predict(torch.from_numpy(agent), torch.from_numpy(obs), torch.from_numpy(action))[member]
    next_obs = (following.numpy()[:, : s.obs_dim] + noise * rng.normal(size=obs.shape)).astype(np.float32)
    zeros = np.zeros(len(agent), dtype=np.float32)
    return Transitions(agent, obs, action, zeros, next_obs, zeros > 0, agent, max(agents) + 1, "synthetic")


def prior_of(model: FactoredEnsemble, noise: float) -> FactorPrior:
    centres = model.agent_encoder(torch.arange(model.config.n_agents)).double()
    return FactorPrior(centres, torch.full((model.config.members, model.config.obs_dim), noise, dtype=torch.float64))


def alone(transitions: Transitions) -> Transitions:
    """The same transitions, all of one new agent."""
    return replace(transitions, agent=np.zeros_like(transitions.agent), n_agents=1)


# --- the closed form ------------------------------------------------------------------------------------------------


@every_shape
def test_the_posterior_equals_generalised_least_squares_of_every_component(shape):
    """Each component of the mixture solved as a stacked least-squares problem, weighted by its marginal likelihood."""
    model = population(shape)
    data = alone(logged(model, [5], 6, noise=0.05))
    prior = prior_of(model, 0.05**2)
    posterior = FactorPosterior(prior, gather_statistics(model, prior.noise, data))
    f = features(model, torch.from_numpy(data.obs), torch.from_numpy(data.action))[1].reshape(-1, 4).numpy()
    y = (data.next_obs.astype(np.float64) - data.obs).reshape(-1)
    component = (prior.bandwidth[1] ** 2 * shrunk_covariance(prior.centres)[1]).numpy()
    marginal = f @ component @ f.T + 0.05**2 * np.eye(len(y))  # of y, around f @ centre
    root = np.linalg.cholesky(np.linalg.inv(component))
    means, logs = [], []
    for centre in prior.centres[1].numpy():
        stacked = np.concatenate([f / 0.05, root.T])
        means.append(np.linalg.lstsq(stacked, np.concatenate([y / 0.05, root.T @ centre]), rcond=None)[0])
        logs.append(-0.5 * (y - f @ centre) @ np.linalg.solve(marginal, y - f @ centre))
    weights = np.exp(np.array(logs) - max(logs))
    weights /= weights.sum()
    mean = weights @ np.array(means)
    np.testing.assert_allclose(posterior.mean[1, 0], mean, rtol=1e-8, atol=1e-9)
    apart = np.array(means) - mean
    covariance = np.linalg.inv(f.T @ f / 0.05**2 + root @ root.T) + (apart * weights[:, None]).T @ apart
    np.testing.assert_allclose(posterior.covariance(0)[1], covariance, rtol=1e-7, atol=1e-10)


def test_the_posterior_without_transitions_is_the_prior():
    model = population(DISCRETE)
    prior = prior_of(model, 0.01)
    posterior = FactorPosterior(prior, SufficientStatistics.none(2, 3, 4))
    np.testing.assert_array_equal(posterior.mean, prior.mean[:, None].expand(2, 3, 4))
    spread = torch.stack([torch.cov(c.T, correction=0) for c in prior.centres])
    inner = (prior.bandwidth**2)[:, None, None] * shrunk_covariance(prior.centres)
    np.testing.assert_allclose(posterior.covariance(1), spread + inner, rtol=1e-9, atol=1e-12)
    assert posterior.undetermined(2) == 4


@every_shape
def test_transitions_of_a_synthetic_agent_recover_its_factor(shape):
    model = population(shape)
    prior = prior_of(model, 1e-10)
    truth = torch.tensor([0.3, -2.5, 1.4, 0.9])  # no agent of the population
    stranger = with_factors(model, truth.expand(2, 1, 4).double())
    for member in (0, 1):
        data = logged(stranger, [0], 60, member=member)
        posterior = FactorPosterior(prior, gather_statistics(model, prior.noise, data))
        np.testing.assert_allclose(posterior.mean[member, 0], truth, atol=2e-4)
        assert posterior.undetermined(0) == 0


def test_the_order_of_transitions_does_not_matter():
    model = population(CONTINUOUS)
    data = logged(model, [0, 1, 2], 30, noise=0.1)
    order = np.random.default_rng(2).permutation(len(data))
    fields = ("agent", "obs", "action", "reward", "next_obs", "terminated", "trajectory")
    shuffled = replace(data, **{name: getattr(data, name)[order] for name in fields})
    noise = prior_of(model, 0.01).noise
    one, other = gather_statistics(model, noise, data), gather_statistics(model, noise, shuffled)
    np.testing.assert_allclose(one.information, other.information, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(one.vector, other.vector, rtol=1e-5, atol=1e-3)  # float32 encoders
    np.testing.assert_array_equal(one.seen, other.seen)


def test_evidence_adds_up_over_transitions_and_keeps_agents_apart():
    model = population(DISCRETE)
    data = logged(model, [0, 1, 2], 8, noise=0.1)
    noise = prior_of(model, 0.01).noise
    half = np.arange(len(data)) % 2 == 0
    total = gather_statistics(model, noise, data)
    parts = gather_statistics(model, noise, data.select(half)) + gather_statistics(model, noise, data.select(~half))
    np.testing.assert_allclose(total.information, parts.information, rtol=1e-5, atol=1e-4)
    np.testing.assert_allclose(total.vector, parts.vector, rtol=1e-5, atol=1e-3)
    single = gather_statistics(model, noise, alone(data.select(data.agent == 1)))
    np.testing.assert_allclose(total.of([1]).information, single.information, rtol=1e-5, atol=1e-4)
    assert total.seen.tolist() == [8, 8, 8]


def test_a_clipped_observation_says_nothing():
    model = population(DISCRETE)
    data = alone(logged(model, [4], 10))
    noise = prior_of(model, 0.01).noise
    free = gather_statistics(model, noise, data)
    model.obs_high.copy_(torch.tensor([np.inf, -100.0, np.inf]))  # the second dimension is always clipped
    next_obs = data.next_obs.copy()
    next_obs[:, 1] = -100.0
    clipped = gather_statistics(model, noise, replace(data, next_obs=next_obs))
    f = features(model, torch.from_numpy(data.obs), torch.from_numpy(data.action))[:, :, 1]
    np.testing.assert_allclose(free.information - clipped.information, (f.mT @ f / 0.01)[:, None], rtol=1e-9, atol=1e-9)


def test_what_was_constant_in_training_says_nothing():
    model = population(DISCRETE)
    data, noise = alone(logged(model, [7], 50)), prior_of(model, 0.01).noise
    ignored = noise.clone()
    ignored[:, 1] = torch.inf
    expected = gather_statistics(model, ignored, data)
    model.delta_std[1] = 1e-8  # as training scales it: what moves now would count as billions of standard deviations
    found = gather_statistics(model, noise, data)
    torch.testing.assert_close(found.information, expected.information)
    torch.testing.assert_close(found.vector, expected.vector)


@pytest.mark.parametrize("known", [(), ("reward",), ("terminated",), ("reward", "terminated")], ids=str)
def test_rewards_and_ends_are_learned_from_online_where_they_are_told(known):
    model = population(replace(DISCRETE, extra_dim=2))
    data = logged(model, [7], 30)
    data = alone(replace(data, reward=np.arange(30) / 30, terminated=np.arange(30) % 7 == 0))
    noise = torch.full((2, 5), torch.inf, dtype=torch.float64)
    counted = [0, 1, 2, *(3 + i for i, name in enumerate(("reward", "terminated")) if name in known)]
    noise[:, counted] = 0.01
    expected = gather_statistics(model, noise, data)
    prior = FactorPrior(prior_of(model, 0.01).centres, torch.full((2, 5), 0.01, dtype=torch.float64))
    online = OnlineDynamics(model, FactorPosterior(prior, SufficientStatistics.none(2, 40, 4)))
    told = {name: getattr(data, name) for name in known}
    online.update(data.obs, data.action, data.next_obs, **told)
    torch.testing.assert_close(online.posterior.evidence.information, expected.information)
    torch.testing.assert_close(online.posterior.evidence.vector, expected.vector)
    for wrong in (np.nan, [1.0, 2.0]):
        with pytest.raises(ValueError, match="give a finite number for each"):
            online.update(data.obs[0], data.action[0], data.next_obs[0], reward=wrong)


def test_samples_have_the_posterior_s_mean_and_covariance():
    model = population(DISCRETE)
    prior = prior_of(model, 0.3**2)
    posterior = FactorPosterior(prior, gather_statistics(model, prior.noise, alone(logged(model, [7], 2, noise=0.3))))
    rng = np.random.default_rng(0)
    draws = torch.stack([posterior.sample(0, rng) for _ in range(1200)])[:, 1].numpy()
    covariance = posterior.covariance(0)[1].numpy()
    error = np.sqrt(covariance.diagonal() / len(draws))
    assert (np.abs(draws.mean(0) - posterior.mean[1, 0].numpy()) < 4 * error).all()
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=0.15 * covariance.diagonal().max())


def test_credible_ellipsoids_cover_synthetic_agents():
    """90 % ellipsoids of agents drawn like the population contain the true factor in about 90 % of cases."""
    model = population(replace(DISCRETE, n_agents=400))
    prior = prior_of(model, 0.2**2)
    truth = np.random.default_rng(5).normal(size=(1, 300, 4)).repeat(2, axis=0)
    strangers = with_factors(model, torch.from_numpy(truth))
    data = logged(strangers, list(range(300)), 10, noise=0.2)
    posterior = FactorPosterior(prior, gather_statistics(model, prior.noise, data))
    apart = posterior.mean[0].numpy() - truth[0]
    distance = [apart[a] @ np.linalg.solve(posterior.covariance(a)[0].numpy(), apart[a]) for a in range(300)]
    covered = np.mean(np.array(distance) < 7.779)  # 90 % quantile of chi-squared with 4 degrees of freedom
    assert 0.84 < covered < 0.96


def test_directions_that_no_transition_moves_stay_undetermined():
    """With one action and one place, D = 3 equations at most bind R = 4 directions."""
    model = population(DISCRETE)
    data = alone(logged(model, [3], 1, noise=0.01))
    prior = prior_of(model, 1e-8)
    posterior = FactorPosterior(prior, gather_statistics(model, prior.noise, data))
    assert posterior.undetermined(0) >= 1
    ratios = posterior.determination(0)
    assert (ratios[:, 0] < 1e-6).all() and (ratios[:, -1] > 1e3).all()


def test_the_prior_s_components_are_narrow_where_agents_lie_on_a_curve():
    rng = np.random.default_rng(0)
    angle = rng.uniform(0, 3, 400)
    curve = torch.from_numpy(np.stack([np.cos(angle), np.sin(angle), angle**2 / 4], axis=1))
    cloud = torch.from_numpy(rng.normal(size=(400, 3)))
    few = cloud[:5]
    narrow, wide, widest = (float(FactorPrior(x[None], torch.ones(1, 1)).bandwidth[0]) for x in (curve, cloud, few))
    assert narrow <= 0.1 < wide < widest
    assert {narrow, wide, widest} <= set(BANDWIDTHS)


def test_few_agents_still_give_a_covariance_that_can_be_inverted():
    factors = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 2, 6)))
    assert torch.linalg.eigvalsh(shrunk_covariance(factors)).min() > 1e-3
    many = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 5000, 3)) * [1.0, 2.0, 3.0])
    np.testing.assert_allclose(shrunk_covariance(many)[0].diagonal(), [1, 4, 9], rtol=0.1)
    one = torch.ones(1, 1, 3, dtype=torch.float64)
    assert torch.isfinite(torch.linalg.inv(shrunk_covariance(one))).all()
    for alike in (torch.ones(1, 4, 3), torch.zeros(1, 4, 3), torch.ones(1, 4, 1)):
        assert torch.linalg.eigvalsh(shrunk_covariance(alike.double())).min() > 0


# --- evidence as it is kept -----------------------------------------------------------------------------------------


def uneven(agents: int, rank: int) -> tuple[FactorPrior, SufficientStatistics]:
    """Agents whose data say 10^9 times as much of one direction as of another, none along an axis."""
    rng = np.random.default_rng(0)
    information, vector = np.empty((2, agents, rank, rank)), np.empty((2, agents, rank))
    for place in np.ndindex(2, agents):
        axes = np.linalg.qr(rng.normal(size=(rank, rank)))[0]
        information[place] = axes @ np.diag(np.geomspace(1e-1, 1e8, rank)) @ axes.T
        vector[place] = information[place] @ rng.normal(size=rank)
    prior = FactorPrior(torch.from_numpy(rng.normal(size=(2, 50, rank))), torch.ones(2, 3, dtype=torch.float64))
    seen = torch.full((agents,), 20)
    return prior, SufficientStatistics(torch.from_numpy(information), torch.from_numpy(vector), seen)


def test_packed_evidence_keeps_directions_that_the_data_say_little_about():
    prior, evidence = uneven(agents=300, rank=6)
    packed = PackedStatistics.pack(evidence)
    exact, kept = FactorPosterior(prior, evidence), FactorPosterior(prior, packed)
    singles = {name: getattr(evidence, name).float().double() for name in ("information", "vector")}
    rounded = FactorPosterior(prior, replace(evidence, **singles))
    for agent in (0, 255, 256, 299):
        covariance = exact.covariance(agent)
        lower = torch.linalg.cholesky(covariance)
        shifts = [
            torch.linalg.solve_triangular(lower, (p.mean - exact.mean)[:, agent, :, None], upper=False).abs().max()
            for p in (kept, rounded)
        ]
        assert shifts[0] < 0.01 < 0.1 < shifts[1]  # posterior standard deviations
        np.testing.assert_allclose(kept.determination(agent), exact.determination(agent), rtol=2e-3)
        ratio = torch.linalg.solve_triangular(lower, kept.covariance(agent), upper=False)
        ratio = torch.linalg.solve_triangular(lower, ratio.mT, upper=False)
        np.testing.assert_allclose(torch.linalg.eigvalsh(ratio), 1.0, atol=5e-3)


def test_packed_evidence_of_few_transitions_stays_without_negative_eigenvalues():
    """Three equations in four directions, in units of a noise of 1e-5; and an agent without any transition."""
    model = population(DISCRETE)
    data = replace(alone(logged(model, [3], 1, noise=0.01)), n_agents=2)
    prior = prior_of(model, 1e-10)
    evidence = gather_statistics(model, prior.noise, data)
    kept = FactorPosterior(prior, PackedStatistics.pack(evidence))
    values = torch.linalg.eigvalsh(kept.evidence.of([0]).information)[:, 0]
    assert (values[:, 0].abs() < 1e-12 * values[:, -1]).all()
    np.testing.assert_allclose(kept.mean, FactorPosterior(prior, evidence).mean, rtol=1e-4, atol=1e-4)
    assert torch.isfinite(kept.sample(0, np.random.default_rng(0))).all()
    nobody = kept.evidence.of([1])
    assert not nobody.information.any() and not nobody.vector.any() and kept.undetermined(1) == 4


@pytest.mark.parametrize(("rank", "share"), [(3, 0.41), (30, 0.27)])
def test_packed_evidence_takes_a_third_of_the_memory(rank, share):
    _, evidence = uneven(agents=4, rank=rank)
    packed = PackedStatistics.pack(evidence)
    sizes = [sum(x.nbytes for x in vars(kept).values()) for kept in (evidence, packed)]
    assert sizes[1] < share * sizes[0]


def test_files_with_whole_information_matrices_can_be_read():
    prior, evidence = uneven(agents=3, rank=4)
    old = {
        "prior.centres": prior.centres,
        "prior.noise": prior.noise,
        "evidence.information": evidence.information,
        "evidence.vector": evidence.vector,
        "evidence.seen": evidence.seen,
    }
    loaded = from_tensors(old)
    np.testing.assert_array_equal(loaded.mean, FactorPosterior(prior, evidence).mean)
    assert "evidence.information" not in to_tensors(loaded)


# --- online ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def simulator(cars, tmp_path_factory):
    """A small simulator of MountainCar's first five agents of six."""
    folder = tmp_path_factory.mktemp("simulators") / "small"
    known = replace(cars.select(cars.agent < 5), n_agents=5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("persim_gym.workflows.training_setup.recipe_for", lambda *a, **k: replace(TINY, polish=True))
        train_simulator(known, name="small", domain="mountaincar", folder=folder, progress=False)
    return load_simulator(str(folder))


def stranger_of(cars) -> Transitions:
    return cars.select(cars.agent == 5)


def test_updates_one_at_a_time_equal_all_at_once(simulator, cars):
    data = stranger_of(cars)
    online = simulator.online()
    for i in range(len(data)):
        online.update(data.obs[i], data.action[i], data.next_obs[i])
    _, posterior = simulator.personalize(data)
    np.testing.assert_allclose(online.posterior.evidence.information, posterior.evidence.information, rtol=1e-5)
    np.testing.assert_allclose(online.factor, posterior.mean[:, 0], rtol=1e-5, atol=1e-6)
    together = simulator.online()
    together.update(data.obs, data.action, data.next_obs)
    np.testing.assert_allclose(online.factor, together.factor, rtol=1e-5, atol=1e-6)


def test_online_dynamics_predict_with_what_they_have_learned(simulator, cars):
    data = stranger_of(cars)
    online = simulator.online()

    def error():
        return float(np.square(online(data.obs, data.action).mean(0) - data.next_obs).mean())

    before = error()
    online.update(data.obs[:20], data.action[:20], data.next_obs[:20])
    after = error()
    assert after < before
    online.forget()
    assert error() == before
    sampled = online.sample(np.random.default_rng(0))
    assert isinstance(sampled, AgentDynamics) and not torch.equal(sampled.factor, online.factor)


def test_online_starts_from_an_agent_s_own_beliefs(simulator):
    online = simulator.online(3)
    np.testing.assert_allclose(online.factor, simulator.dynamics(3).factor, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"agent 5 is not in this simulator \(5 agents: 0–4\)"):
        simulator.online(5)


def test_a_transition_that_is_not_finite_is_refused(simulator):
    with pytest.raises(ValueError, match="not finite"):
        simulator.online().update([0.0, np.nan], 1, [0.0, 0.0])


@pytest.mark.parametrize(
    ("obs", "action", "next_obs"),
    [
        ([0.0] * 4, 0, [0.0] * 4),  # as many as two observations
        ([0.0] * 3, 0, [0.0] * 3),
        ([[0.0, 0.0]], [0, 1, 1], [[0.0, 0.0]]),
        ([[0.0, 0.0]] * 3, 0, [[0.0, 0.0]] * 3),
        ([0.0, 0.0], 3, [0.0, 0.0]),
        ([0.0, 0.0], -1, [0.0, 0.0]),
        ([0.0, 0.0], 0.7, [0.0, 0.0]),
    ],
)
def test_a_transition_of_other_sizes_or_actions_is_refused_and_not_learned(simulator, obs, action, next_obs):
    online = simulator.online()
    with pytest.raises(ValueError, match="the simulator has 2 observations, and its actions are whole numbers 0–2"):
        online.update(obs, action, next_obs)
    assert online.posterior.evidence.seen.tolist() == [0]


def test_transitions_in_double_precision_personalize_too(simulator, cars):
    data = stranger_of(cars)
    double = replace(data, obs=data.obs.astype(np.float64), next_obs=data.next_obs.astype(np.float64))
    np.testing.assert_array_equal(simulator.personalize(double)[1].mean, simulator.personalize(data)[1].mean)


@pytest.mark.parametrize("agent", ["1", 1.5, True])
def test_an_agent_to_learn_about_is_a_whole_number(simulator, agent):
    with pytest.raises(ValueError, match="is not in this simulator"):
        simulator.online(agent)


# --- new agents and the polish --------------------------------------------------------------------------------------


def test_new_agents_come_after_the_known_ones_who_stay_as_they_are(simulator, cars):
    data = replace(cars.select(cars.agent >= 4), source="new")  # agents 4 and 5 of another fleet
    bigger, posterior = simulator.personalize(data)
    assert bigger.model.config.n_agents == bigger.card.shape["n_agents"] == 7
    assert posterior.n_agents == 2 and bigger.beliefs.n_agents == 7
    np.testing.assert_allclose(bigger.dynamics(6).factor, posterior.mean[:, 1], rtol=1e-5, atol=1e-6)
    for agent in range(5):
        np.testing.assert_array_equal(bigger.dynamics(agent).factor, simulator.dynamics(agent).factor)
    assert simulator.model.config.n_agents == 5


def test_personalized_simulators_survive_files(simulator, cars, tmp_path):
    bigger, _ = simulator.personalize(stranger_of(cars))
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
    bigger, _ = simulator.personalize(stranger_of(cars).select(np.arange(100) < 7))
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


def test_data_of_another_domain_are_refused(simulator, cars, pushes):
    with pytest.raises(ValueError, match="pushes has 3 observations, the simulator 2"):
        simulator.personalize(pushes)
    with pytest.raises(ValueError, match="actions are not those of the simulator, 0–2"):
        simulator.personalize(replace(cars, action=cars.action + 1))


def test_a_simulator_without_a_prior_says_so(simulator, cars):
    with pytest.raises(ValueError, match="train it again"):
        replace(simulator, beliefs=None).personalize(cars)


def test_the_polish_lowers_the_error_of_one_step(cars):
    model = fit_ensemble(cars, TINY, n_actions=3, progress=False).requires_grad_(False)
    beliefs = factor_posterior(model, cars)
    better = polished(model, beliefs)
    assert (residual_variance(better, cars).sum(1) < residual_variance(model, cars).sum(1)).all()
    untouched = polished(model, beliefs, every=False)
    everyone = torch.arange(6)
    np.testing.assert_allclose(untouched.agent_encoder(everyone), model.agent_encoder(everyone), rtol=0, atol=1e-6)


def test_agents_without_transitions_get_the_population_average(cars):
    data = replace(cars.select(cars.agent > 0), n_agents=8)
    model = fit_ensemble(data, TINY, n_actions=3, progress=False).requires_grad_(False)
    beliefs = factor_posterior(model, data)
    for every in (True, False):
        factors = polished(model, beliefs, every).agent_encoder(torch.arange(8))
        for nobody in (0, 6, 7):
            np.testing.assert_allclose(factors[:, nobody], beliefs.prior.mean, rtol=1e-5, atol=1e-6)


# --- planning and environments --------------------------------------------------------------------------------------


def test_an_online_policy_learns_from_every_step_but_not_across_episodes(simulator):
    domain = DOMAINS["mountaincar"]
    online = simulator.online()
    planner = MPC(online, domain.task, domain.action_space, planner=RandomShooting(candidates=8, horizon=3), seed=1)
    policy = OnlineMPC(planner, online)
    state, memory = np.array([-0.5, 0.0]), None
    physics = domain.dynamics(4)
    for t in range(12):
        action, memory = policy.predict(state, memory, episode_start=np.array([t % 6 == 0]))
        state = physics(state, action)
    assert int(online.posterior.evidence.seen[0]) == 10  # of 12 steps, two start an episode
    with pytest.raises(ValueError, match="one policy a row"):
        policy.predict(np.zeros((2, 2)))


def test_an_online_policy_can_plan_in_draws_of_the_posterior(simulator):
    domain = DOMAINS["mountaincar"]
    online = simulator.online()
    planner = MPC(online, domain.task, domain.action_space, planner=RandomShooting(candidates=8, horizon=3))
    policy = OnlineMPC(planner, online, sample=3)
    factors = []
    for _ in range(2):
        policy.predict(np.array([-0.5, 0.0]), episode_start=np.array([True]))
        factors.append(planner.dynamics.factor)
    assert not torch.equal(*factors)


def test_an_environment_learns_about_its_agent(simulator, cars):
    folder = str(simulator.folder)
    data = stranger_of(cars)
    env, same = (gym.make("persim_gym:PersimEnv-v0", agent=2, simulator=folder) for _ in range(2))
    start = {"obs": np.array([-0.5, 0.01], dtype=np.float32)}
    env.unwrapped.learn(data.obs, data.action, data.next_obs)
    expected = simulator.online(2)
    expected.update(data.obs, data.action, data.next_obs)
    for e in (env, same):
        e.reset(seed=0, options=start)
    learned, untouched = env.step(2)[0], same.step(2)[0]
    np.testing.assert_allclose(learned, expected(start["obs"][None], [2]).mean(0)[0], rtol=1e-5)
    assert not np.allclose(learned, untouched, rtol=1e-6)


def test_an_environment_of_an_agent_that_was_just_added(simulator, cars, tmp_path):
    bigger, _ = simulator.personalize(stranger_of(cars))
    bigger.save(tmp_path / "bigger")
    env = gym.make("persim_gym:PersimEnv-v0", agent=5, simulator=str(tmp_path / "bigger"))
    obs, _ = env.reset(seed=0)
    np.testing.assert_allclose(env.step(0)[0], bigger.dynamics(5)(obs[None], [0]).mean(0)[0], rtol=1e-5)


def test_drawn_factors_change_with_episodes_and_repeat_with_seeds(simulator):
    folder = str(simulator.folder)
    obs = {"obs": np.array([-0.5, 0.01], dtype=np.float32)}
    env = gym.make("persim_gym:PersimEnv-v0", agent=2, simulator=folder, factor="sample")

    def step(seed=None):
        env.reset(seed=seed, options=obs)
        return env.step(2)[0]

    first, second, again = step(seed=1), step(), step(seed=1)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, again)
    with pytest.raises(ValueError, match='use "mean" or "sample"'):
        gym.make("persim_gym:PersimEnv-v0", simulator=folder, factor="median")


def test_rows_draw_their_factors_apart(simulator):
    batched = gym.make_vec(
        "persim_gym:PersimEnv-v0",
        num_envs=3,
        vectorization_mode="vector_entry_point",
        agents=[2, 2, 4],
        simulator=str(simulator.folder),
        factor="sample",
    )
    batched.reset(seed=[7, 8, 7])
    single = gym.make("persim_gym:PersimEnv-v0", agent=2, simulator=str(simulator.folder), factor="sample")
    single.reset(seed=7)
    obs = batched.step(np.array([2, 2, 2]))[0]
    np.testing.assert_allclose(obs[0], single.step(2)[0], rtol=1e-5)
    assert not np.allclose(obs[0], obs[1])


@pytest.mark.parametrize("apart", [False, True])
def test_rows_of_a_large_model_can_be_rebound(apart):
    model = population(CONTINUOUS)
    rows = BatchDynamics(model, [3, 3, 9], apart=apart)
    obs, action = np.ones((3, 3), dtype=np.float32), np.full((3, 2), 0.5, dtype=np.float32)
    before = rows(obs, action)
    rows.rebind(1, bind_agent(model, 9).factor)
    after = rows(obs, action)
    np.testing.assert_array_equal(before[:, [0, 2]], after[:, [0, 2]])
    np.testing.assert_allclose(after[:, 1], after[:, 2], rtol=1e-6)


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_adds_a_dataset_s_agents(simulator, home, tmp_path):
    import minari

    steps = np.linspace(-0.5, -0.4, 6, dtype=np.float32)
    observations = np.stack([steps, np.full(6, 0.02, dtype=np.float32)], axis=1)
    flags = np.zeros(5, dtype=np.bool_)
    buffers = [
        EpisodeBuffer(
            observations=observations,
            actions=np.full(5, 1),
            rewards=np.full(5, -1.0),
            terminations=flags,
            truncations=flags,
            options={"agent": number},
        )
        for number in (812, 640)
    ]
    domain = DOMAINS["mountaincar"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about its author and code, which it has not
        minari.create_dataset_from_buffers(
            "fleet/new-v0",
            buffer=buffers,
            observation_space=domain.observation_space,
            action_space=domain.action_space,
        )
    done = CliRunner().invoke(
        app, ["personalize", str(simulator.folder), "--data", "fleet/new-v0", "--out", str(tmp_path / "new")]
    )
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.output.splitlines()]
    assert ["5", "640", "5"] in [line[:3] for line in lines] and ["6", "812", "5"] in [line[:3] for line in lines]
    assert load_simulator(str(tmp_path / "new")).model.config.n_agents == 7

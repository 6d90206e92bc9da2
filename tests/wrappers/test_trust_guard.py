"""A guard: who acts, what is believed, and when that changes."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_sb3
from support.policies import Constant

from persim_gym.envs import DOMAINS
from persim_gym.simulator.diagnostics.surprise import SurpriseBand
from persim_gym.simulator.registry import load_simulator
from persim_gym.wrappers import TrustGuard, usual_surprise

BAND = SurpriseBand(tuple(np.linspace(0.0, 30.0, 81)), limit=5.0, false_alarms=1.0, agents=100)
"""Errors above 7.5 add to the surprise, at most 3 each."""
CAR, QUIET = "HeteroMountainCar-v0", 5


class Changing(gym.Wrapper):
    """MountainCar whose gravity changes at given steps, all episodes together."""

    def __init__(self, changes):
        super().__init__(gym.make(CAR, gravity=changes[0]))
        self.changes, self.steps = changes, 0

    def step(self, action):
        if self.steps in self.changes:
            state = self.env.unwrapped.state
            self.env = gym.make(CAR, gravity=self.changes[self.steps])
            self.env.reset(options={"state": state})
        self.steps += 1
        return self.env.step(action)


class Broken(gym.ObservationWrapper):
    """A sensor that fails from the third step on."""

    steps = 0

    def observation(self, observation):
        self.steps += 1
        return observation if self.steps < 4 else np.full_like(observation, np.nan)


class Shaken(gym.ObservationWrapper):
    """A sensor with noise from the sixth step on."""

    steps, rng = 0, np.random.default_rng(0)

    def observation(self, observation):
        self.steps += 1
        return observation + np.float32(self.rng.normal(0, 0.005, 2) if self.steps > 6 else 0)


@pytest.fixture(scope="module")
def simulator():
    return load_simulator("mountaincar/random-v0")


def gravity(agent):
    return DOMAINS["mountaincar"].agent_covariates(agent)["gravity"]


def steps(env, count, action=2):
    env.reset(seed=0)
    return [env.step(action)[-1]["guard"] for _ in range(count)]


@pytest.mark.filterwarnings("ignore:.*is different from the unwrapped version")
@pytest.mark.filterwarnings("ignore:.*A Box observation space")
@pytest.mark.parametrize("name", ["mountaincar", "cartpole"])
def test_gymnasium_and_stable_baselines_take_it(name):
    env = TrustGuard(gym.make(DOMAINS[name].env_id, agent=17), load_simulator(f"{name}/random-v0"), 17, 0, BAND)
    check_env(env, skip_render_check=True)
    check_sb3(env, skip_render_check=True)


def test_as_long_as_the_agent_is_as_believed_the_policy_acts_and_nothing_else_changes(simulator):
    plain, env = gym.make(CAR, agent=17), TrustGuard(gym.make(CAR, agent=17), simulator, 17, 0, BAND)
    np.testing.assert_array_equal(plain.reset(seed=3)[0], env.reset(seed=3)[0])
    before = int(env.dynamics.posterior.statistics.seen[0])
    for action in (0, 2, 2, 1, 2, 0, 0, 0):
        expected, found = plain.step(action), env.step(action)
        np.testing.assert_array_equal(expected[0], found[0])
        assert expected[1:4] == found[1:4]
        assert found[4]["guard"] == {
            "surprise": 0.0, "limit": 5.0, "fallback": False, "action": action, "why": ""
        }  # fmt: skip
    assert env.handovers == []
    assert int(env.dynamics.posterior.statistics.seen[0]) == before + 8


def test_an_agent_that_changes_is_noticed_learned_anew_and_handed_back(simulator):
    env = TrustGuard(Changing({0: gravity(17), 10: gravity(4)}), simulator, 17, Constant(0), BAND, QUIET)
    told = steps(env, 60)
    (handover,) = env.handovers
    assert handover.why == "not as believed" and handover.ended == "learned anew" and handover.surprise > 5
    assert handover.episode == 0 and 10 < handover.step <= 14 and handover.acted >= QUIET
    acting = slice(handover.step, handover.step + handover.acted)
    assert [t["fallback"] for t in told[acting]] == [True] * handover.acted
    assert {int(t["action"]) for t in told[acting]} == {0}
    others = told[: acting.start] + told[acting.stop :]
    assert not any(t["fallback"] for t in others) and {int(t["action"]) for t in others} == {2}
    # What is believed now predicts the new agent, and not the old one.
    obs, action = np.float32([[-0.5, 0.01], [0.1, 0.0]]), np.array([2, 0])
    physics = DOMAINS["mountaincar"].physics
    now = env.dynamics(obs, action).mean(0)
    np.testing.assert_allclose(now, physics(gravity=gravity(4))(obs.astype(np.float64), action), atol=1e-5)
    assert np.abs(now - physics(gravity=gravity(17))(obs.astype(np.float64), action)).max() > 1e-4


def test_after_a_passing_disturbance_the_old_belief_acts_again(simulator):
    changes = {0: gravity(17), 10: gravity(4), 13: gravity(17)}
    env = TrustGuard(Changing(changes), simulator, 17, 0, BAND, QUIET)
    before = env.dynamics.factor
    steps(env, 40)
    assert [h.ended for h in env.handovers] == ["as believed before"]
    # The disturbed steps were not learned from.
    np.testing.assert_allclose(env.dynamics.factor, before, atol=0.02)


def test_an_agent_that_nothing_is_known_of_begins_with_the_fallback(simulator):
    env = TrustGuard(gym.make(CAR, agent=17), simulator, None, 0, BAND, QUIET)
    told = steps(env, 20)
    (handover,) = env.handovers
    assert handover.why == "nothing is known of the agent" and handover.ended == "learned anew"
    assert [t["fallback"] for t in told] == [True] * handover.acted + [False] * (20 - handover.acted)
    assert QUIET <= handover.acted < 15


def test_what_is_not_finite_hands_over_at_once_and_is_not_learned_from(simulator):
    env = TrustGuard(Broken(gym.make(CAR, agent=17)), simulator, 17, 0, BAND, QUIET)
    told = steps(env, 12)
    (handover,) = env.handovers
    assert handover.step == 3 and handover.why == "not finite" and not handover.ended and handover.surprise == np.inf
    assert told[-1]["fallback"] and told[-1]["surprise"] == BAND.limit
    assert bool(env.dynamics.posterior.mean.isfinite().all())


def test_where_no_agent_of_the_population_would_do_so_the_fallback_keeps_acting(simulator):
    env = TrustGuard(Shaken(gym.make(CAR, agent=17)), simulator, 17, 1, BAND, QUIET)
    told = steps(env, 70)
    (handover,) = env.handovers
    assert handover.why == "not as believed" and not handover.ended and handover.acted == 70 - handover.step
    assert told[-1]["why"] and env.dynamics.posterior.statistics.seen[0] < 60  # The new view began again meanwhile.


def test_a_fallback_that_acts_at_the_end_of_an_episode_goes_on_in_the_next(simulator):
    env = TrustGuard(gym.make(CAR, agent=17), simulator, None, 0, BAND, QUIET)
    steps(env, 2)
    assert env.reset(seed=1)[1]["guard"]["why"] and env.step(2)[-1]["guard"]["fallback"]
    assert env.handovers[0].acted == 3


def test_the_fallback_is_told_where_it_begins(simulator):
    class Told(Constant):
        def predict(self, observation, state=None, episode_start=None, deterministic=False):
            begun.append((bool(episode_start[0]), state, np.shape(observation), deterministic))
            return super().predict(observation)[0], 7

    begun = []
    env = TrustGuard(gym.make(CAR, agent=17), simulator, None, Told(0), BAND, QUIET)
    steps(env, 2)
    env.reset()
    env.step(2)
    assert begun == [(True, None, (1, 2), True), (False, 7, (1, 2), True), (True, 7, (1, 2), True)]


@pytest.mark.parametrize(
    ("env", "given", "said"),
    [
        ("HeteroCartPole-v0", {}, "observes .* but simulator mountaincar/random-v0 2 numbers"),
        ("MountainCarContinuous-v0", {}, "the environment's actions are"),
        (CAR, {"agent": 500}, "agent 500 is not in this simulator"),
        (CAR, {"fallback": 3}, "outside the action space"),
        (CAR, {"quiet": 0}, "quiet=0 would hand back at once"),
    ],
)
def test_what_does_not_fit_is_refused(simulator, env, given, said):
    with pytest.raises(ValueError, match=said):
        TrustGuard(gym.make(env), simulator, **{"agent": 1, "fallback": 0, "band": BAND, **given})


def test_usual_surprise_is_measured_on_logged_agents(simulator, fleet):
    band = usual_surprise(simulator, fleet, false_alarms=10.0)
    assert band.agents == 60 and band.false_alarms == 10.0 and band.limit > 0
    assert SurpriseBand.from_json(band.to_json()) == band
    with pytest.raises(ValueError, match="too few to promise 0.1 false alarms in 1,000 steps"):
        usual_surprise(simulator, fleet, false_alarms=0.1)

"""The study of new agents: its jobs and its methods."""

from dataclasses import replace

import numpy as np
from support.simulators import believed

from persim_gym.studies.personalize import dynamics_for, study_jobs


def test_what_leaves_nothing_to_chance_is_measured_once():
    errors = [tuple(job.values()) for job in study_jobs("cartpole", "v", 3, "error")]
    assert len(errors) == len(set(errors))
    once = [j for j in errors if j[2] == "personalized" and j[3] == 0 and j[4] == "0"]
    thrice = [j for j in errors if j[2] == "personalized" and j[3] == 0 and j[4] == "5"]
    assert len(once) == 1 and len(thrice) == 3
    returns = list(study_jobs("cartpole", "v", 3, "return", steps=200))
    assert {job["method"] for job in returns} == {"personalized", "retrained", "online"}
    assert {job["steps"] for job in returns} == {200}
    assert len({tuple(job.values()) for job in returns}) == len(returns) == 3 * 5 * 8  # episodes, agents, eight cases


def test_methods_know_what_they_say(simulator, cars):
    data = replace(cars.select(cars.agent == 5), agent=np.zeros(100, dtype=np.int64), n_agents=1)
    prior = simulator.known_beliefs().prior
    average = dynamics_for(simulator, "personalized", None, 5).factor
    np.testing.assert_allclose(average, prior.mean, rtol=1e-6)
    posterior = believed(simulator, data)
    closed = dynamics_for(simulator, "personalized", data, 5).factor
    np.testing.assert_allclose(closed, posterior.mean[:, 0], rtol=1e-5)
    wide = dynamics_for(simulator, "gaussian", data, 5).factor
    np.testing.assert_allclose(wide, closed, atol=0.3)  # with 100 transitions the prior hardly matters
    trained = dynamics_for(simulator, "retrained", None, 5).factor
    np.testing.assert_array_equal(trained, simulator.dynamics(5).factor)

"""The map of agents: members' factors side by side, and statistics of logs."""

import json

import numpy as np

from persim_gym.reports.atlas import as_coloring, as_script, logged_colorings, plane
from persim_gym.transitions import Transitions


def test_a_line_of_agents_stays_one_whatever_coordinates_members_chose():
    rng = np.random.default_rng(0)
    along = np.sort(rng.normal(size=30))
    directions = rng.normal(size=(4, 1, 3)) * np.array([1.0, -50.0, 0.01, 7.0])[:, None, None]
    places, share = plane(along[None, :, None] * directions + rng.normal(size=(4, 1, 3)))
    np.testing.assert_allclose(share, [1.0, 0.0], atol=1e-9)
    order = np.argsort(places[:, 0]).tolist()
    assert order in (list(range(30)), list(range(29, -1, -1)))


def test_permuting_agents_permutes_their_places():
    factors = np.random.default_rng(1).normal(size=(2, 12, 4))
    order = np.random.default_rng(2).permutation(12)
    np.testing.assert_allclose(plane(factors[:, order])[0], plane(factors)[0][order], atol=1e-9)


def test_equal_agents_and_factors_of_rank_one_have_places_too():
    assert (plane(np.ones((2, 5, 3)))[0] == 0).all()
    assert np.isfinite(plane(np.arange(5.0)[None, :, None])[0]).all()


def test_statistics_are_those_of_each_agents_known_values():
    data = Transitions(
        agent=np.array([0, 0, 0, 2, 2]),
        obs=np.array([[1.0], [3.0], [5.0], [7.0], [7.0]]),
        action=np.zeros(5, dtype=np.int64),
        reward=np.array([1.0, np.nan, 2.0, -4.0, -4.0]),
        next_obs=np.array([[3.0], [5.0], [6.0], [7.0], [7.0]]),
        terminated=np.zeros(5, dtype=np.bool_),
        trajectory=np.array([0, 0, 1, 2, 2]),
        n_agents=3,
        source="made up",
        missing=True,
    )
    found = {coloring.name: coloring.values for coloring in logged_colorings(data, ["temp (°C)"])}
    assert found["mean reward a step"] == [1.5, None, -4.0]
    assert found["logged transitions"] == [3.0, 0.0, 2.0]
    assert found["mean length of its trajectories"] == [1.5, None, 2.0]
    assert found["mean of temp (°C)"] == [3.0, None, 7.0]
    assert found["deviation of temp (°C)"] == [round(float(np.std([1, 3, 5])), 4), None, 0.0]


def test_static_columns_are_numbers_or_texts():
    assert as_coloring("age", [1, None, 2.5], "static").values == [1.0, None, 2.5]
    assert as_coloring("site", ["a", None, "b"], "static").values == ["a", None, "b"]


def test_no_name_ends_the_script_that_holds_it():
    names = ["</script><script>alert(1)</script>", "<!--", "a&b", "\u2028"]
    stored = as_script({"names": names})
    body = stored.removesuffix("</script>").partition(">")[2]
    assert "<" not in body and json.loads(body) == {"names": names}

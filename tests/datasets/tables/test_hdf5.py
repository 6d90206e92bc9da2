"""Episodes are written as Minari writes them."""

import numpy as np
from gymnasium import spaces
from minari.data_collector.episode_buffer import EpisodeBuffer
from minari.dataset.minari_storage import MinariStorage

from persim_gym.datasets.tables.hdf5 import LoggedEpisode, write_episodes


def test_minari_reads_what_it_would_have_written_itself(tmp_path):
    rng = np.random.default_rng(0)
    logged = []
    for agent, steps in ((3, 5), (0, 1), (3, 2)):
        arrays = {
            "observations": rng.normal(size=(steps + 1, 2)),
            "actions": rng.integers(2, size=steps),
            "rewards": rng.normal(size=steps),
            "terminations": rng.random(steps) < 0.5,
            "truncations": rng.random(steps) < 0.5,
        }
        logged.append(
            LoggedEpisode(agent, arrays, {"time": np.arange(steps + 1), "exogenous": rng.normal(size=(steps + 1, 1))})
        )
    box, choice = spaces.Box(-np.inf, np.inf, (2,), np.float64), spaces.Discrete(2)
    for name in ("ours", "theirs"):
        storage = MinariStorage.new(tmp_path / name, observation_space=box, action_space=choice)
        if name == "ours":
            write_episodes(storage, logged)
        else:
            buffers = (
                EpisodeBuffer(id=i, options={"agent": e.agent}, infos=dict(e.infos), **e.steps)
                for i, e in enumerate(logged)
            )
            storage.update_episodes(buffers)
    ours, theirs = (MinariStorage.read(tmp_path / name) for name in ("ours", "theirs"))
    assert (ours.total_episodes, ours.total_steps) == (theirs.total_episodes, theirs.total_steps) == (3, 8)
    assert list(ours.get_episode_metadata(range(3))) == list(theirs.get_episode_metadata(range(3)))
    for one, other in zip(ours.get_episodes(range(3)), theirs.get_episodes(range(3)), strict=True):
        assert one["infos"].keys() == other["infos"].keys() == {"time", "exogenous"}
        for name in ("observations", "actions", "rewards", "terminations", "truncations"):
            np.testing.assert_array_equal(one[name], other[name])
            assert one[name].dtype == other[name].dtype

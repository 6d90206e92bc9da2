"""`persim personalize`: new agents from the command line."""

import shutil
import warnings

import numpy as np
from minari.data_collector import EpisodeBuffer
from typer.testing import CliRunner

from persim_gym.cli import app
from persim_gym.envs import DOMAINS
from persim_gym.simulator.registry import load_simulator


def test_the_command_adds_a_dataset_s_agents(simulator, home, tmp_path):
    folder = str(shutil.copytree(simulator.folder, tmp_path / "own"))  # It is replaced below.
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
    done = CliRunner().invoke(app, ["personalize", folder, "--data", "fleet/new-v0", "--out", str(tmp_path / "new")])
    assert done.exit_code == 0, done.output
    lines = [line.split() for line in done.output.splitlines()]
    assert ["5", "640", "5"] in [line[:3] for line in lines] and ["6", "812", "5"] in [line[:3] for line in lines]
    assert load_simulator(str(tmp_path / "new")).model.config.n_agents == 7
    words = ["personalize", folder, "--data", "fleet/new-v0", "--out"]
    assert CliRunner().invoke(app, [*words, str(tmp_path / "new")]).exit_code == 0  # The same result is nobody's loss.
    before = load_simulator(folder).card
    refused = CliRunner().invoke(app, [*words, folder]).exception
    assert "holds other weights; --force replaces them" in str(refused)
    assert load_simulator(folder).card == before
    assert CliRunner().invoke(app, [*words, folder, "--force"]).exit_code == 0
    assert load_simulator(folder).model.config.n_agents == 7

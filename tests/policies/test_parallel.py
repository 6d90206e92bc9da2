"""Many policies: one file an agent, in other processes, and what is there is kept."""

import socket
from dataclasses import replace

import numpy as np
import pytest
from support.jobs import WorkersHere

from persim_gym.policies import PolicyTraining, load_policy, read_policy, run_training
from persim_gym.policies.parallel import train_policies


def test_one_policy_an_agent_and_what_is_there_is_kept(quick, tmp_path, monkeypatch):
    first = run_training(replace(quick, agent=5), tmp_path / "out", progress=False)
    # Other processes would not train as quickly as `quick` makes this one.
    monkeypatch.setattr("persim_gym.jobs.run.LocalWorkers", WorkersHere)
    done = train_policies(quick, [5, 0], tmp_path / "out", progress=False)
    assert [d.training.agent for d in done] == [5, 0] and done[0] == first
    assert sorted(p.name for p in (tmp_path / "out").glob("*.json")) == ["agent-0.json", "agent-5.json"]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["local", "ray"])
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning")  # of Ray: sockets, its own defaults
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_policies_are_trained_in_other_processes(tmp_path, backend):
    if backend == "ray":
        pytest.importorskip("ray")
    out, training = tmp_path / "out", PolicyTraining(0, "ppo", "cartpole/random-v0", steps=512, n_envs=8)
    run = {"backend": backend, "workers": 1, "progress": False}
    first = train_policies(training, [2], out, **run)
    before = (out / "agent-2.json").stat().st_mtime_ns
    done = train_policies(training, [1, 2], out, **run)
    assert [d.training.agent for d in done] == [1, 2] and done[1] == first[0]
    assert (out / "agent-2.json").stat().st_mtime_ns == before
    assert sorted(p.name for p in out.iterdir()) == ["agent-1", "agent-1.json", "agent-2", "agent-2.json"]
    for d in done:
        path, obs = out / f"agent-{d.training.agent}.json", np.zeros((1, 4), dtype=np.float32)
        assert load_policy(path).predict(obs)[0].shape == (1,) and read_policy(path) == d
    here = train_policies(training, [1], tmp_path / "here", workers=1, progress=False)
    assert (here[0].simulator_return, here[0].true_return) == (done[0].simulator_return, done[0].true_return)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"backend": "slurm"}, "backend 'slurm' is not one of local, ray"),
        ({"address": "auto"}, "address 'auto' is that of a Ray cluster"),
        ({"backend": "ray", "tensorboard": True}, "TensorBoard's logs are written on this machine only"),
    ],
)
def test_a_place_that_does_not_exist_is_refused(quick, tmp_path, options, said):
    with pytest.raises(ValueError, match=said):
        train_policies(quick, [0], tmp_path, **options)


def test_a_cluster_that_does_not_answer_is_reported_at_once(quick, tmp_path):
    pytest.importorskip("ray")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]  # nobody listens there
        with pytest.raises(ValueError, match=f"no Ray cluster answers at 127.0.0.1:{port}: .*ray start --head"):
            train_policies(quick, [0], tmp_path, backend="ray", address=f"127.0.0.1:{port}", progress=False)

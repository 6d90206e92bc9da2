"""One policy an agent for many agents at once, on this machine's cores or on a Ray cluster."""

import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numba
import torch
from tqdm import tqdm

from persim_gym.jobs import available_cores
from persim_gym.policies import PolicyTraining, TrainedPolicy, read_policy, run_training, with_defaults
from persim_gym.simulator.registry import load_simulator
from persim_gym.storage import replacing

BACKENDS = ("local", "ray")


def train_policies(
    training: PolicyTraining,
    agents: Sequence[int],
    out: str | Path,
    *,
    backend: str = "local",
    address: str | None = None,
    workers: int | None = None,
    tensorboard: bool = False,
    force: bool = False,
    progress: bool = True,
) -> list[TrainedPolicy]:
    """Trains one policy an agent; agents whose result file is there are not trained again.

    Locally, joblib runs one process of one thread a core, and a training that was cut off goes on from its checkpoint.
    On Ray, each node needs persim_gym and the simulator under the same name or path; a node trains in a folder of its
    own and sends the policy back, so that no shared disk is needed, and a training that was cut off starts anew.

    Args:
        training: What to train; its `agent` is replaced by each of `agents`.
        agents: Agents of the simulator.
        out: Folder: see `run_training`.
        backend: "local" or "ray".
        address: Of the Ray cluster; None to start Ray on this machine.
        workers: Number of processes, or of tasks at once on Ray; None for one a core of the machine or cluster.
        tensorboard: Whether to write TensorBoard's logs; local only.
        force: Whether to train anew, whatever is there.
        progress: Whether to show a progress bar.

    Returns:
        The policies in the order of `agents`.

    Raises:
        ValueError: If the backend or an agent is unknown, or as `run_training`.
        ImportError: If Ray is asked for and not installed.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend {backend!r} is not one of {', '.join(BACKENDS)}")
    load_simulator(training.simulator).model.check_agents(agents)
    out = Path(out)
    jobs = {agent: with_defaults(replace(training, agent=agent)) for agent in agents}
    done: dict[int, TrainedPolicy] = {}
    for agent, job in jobs.items():
        result = out / f"agent-{agent}.json"
        if result.exists() and not force:
            done[agent] = read_policy(result, job)
    missing = [job for agent, job in jobs.items() if agent not in done]
    run = (
        _on_ray(missing, out, address, workers)
        if backend == "ray"
        else _here(missing, out, workers, tensorboard, force)
    )
    with tqdm(total=len(jobs), initial=len(done), desc="policies", disable=not progress) as bar:
        for policy in run:
            done[policy.training.agent] = policy
            bar.update()
    return [done[agent] for agent in agents]


def _train_here(job: PolicyTraining, out: Path, tensorboard: bool, force: bool = False) -> TrainedPolicy:
    torch.set_num_threads(1)
    numba.set_num_threads(1)
    return run_training(job, out, False, tensorboard, force)


def _here(
    jobs: list[PolicyTraining], out: Path, workers: int | None, tensorboard: bool, force: bool
) -> Iterator[TrainedPolicy]:
    from joblib import Parallel, delayed

    if jobs:
        pool = Parallel(n_jobs=min(workers or available_cores(), len(jobs)), return_as="generator_unordered")
        yield from pool(delayed(_train_here)(job, out, tensorboard, force) for job in jobs)


def _train_away(job: PolicyTraining) -> dict[str, bytes]:
    """Trains on some node; returns the files of the result by name."""
    with tempfile.TemporaryDirectory() as scratch:
        _train_here(job, Path(scratch), False)
        return {
            path.relative_to(scratch).as_posix(): path.read_bytes()
            for path in Path(scratch).rglob("*")
            if path.is_file()
        }


def _on_ray(jobs: list[PolicyTraining], out: Path, address: str | None, workers: int | None) -> Iterator[TrainedPolicy]:
    try:
        import ray
    except ImportError as error:
        raise ImportError("the Ray backend needs Ray: pip install 'persim-gym[ray]'") from error
    if not jobs:
        return
    started, waiting = not ray.is_initialized(), iter(jobs)
    if started:
        try:
            _check_answers(address)
            ray.init(address=address or "local", num_cpus=None if address else workers, log_to_driver=False)
        except OSError as error:
            raise ValueError(
                f"no Ray cluster answers at {address}: {error}; start one with `ray start --head`, and where it wants "
                "a token, set RAY_AUTH_MODE=token here too"
            ) from error
    try:
        task: Any = ray.remote(num_cpus=1)(_train_away)
        running = [task.remote(job) for job in islice(waiting, workers)]
        while running:
            ready, running = ray.wait(running)
            running += [task.remote(job) for job in islice(waiting, 1)]
            yield _received(ray.get(ready[0]), out)
    finally:
        if started:
            ray.shutdown()


def _check_answers(address: str | None) -> None:
    """Fails at once where nothing listens at `host:port`; Ray itself tries for many minutes."""
    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()


def _received(files: dict[str, bytes], out: Path) -> TrainedPolicy:
    """Writes the files of a result, the result file last: it vouches for the rest."""
    names = sorted(files, key=lambda name: "/" not in name)
    for name in names:
        with replacing(out / name) as new:
            new.write_bytes(files[name])
    return read_policy(out / names[-1])

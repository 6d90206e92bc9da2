"""Our BCQ beside d3rlpy's on the same data, with the same settings: what both earn in the true environment.

`python benchmarks/bcq_d3rlpy.py --d3rlpy VENV/bin/python [--dataset cartpole/pure-v0] [--iterations 20000] [--seeds 3]`

d3rlpy needs an older Gymnasium, so it runs as a process of another virtual environment: `pip install d3rlpy==2.8.1`
there. This file is its script too; it gets the data as an .npz file, and observations to act on through a pipe. Its
discrete BCQ copies its target every so many updates; here it moves a little in each, as in the authors' code and ours.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SERVE = "--serve"


def main() -> None:
    """Trains both, seed by seed, and prints a row an agent."""
    from persim_gym.baselines.registry import train_baseline
    from persim_gym.cli.output import numbers
    from persim_gym.datasets import load
    from persim_gym.datasets.registry import dataset_spec

    given = _arguments()
    spec, agents = dataset_spec(given.dataset), numbers(given.agents)
    data = load(spec.dataset_id)
    # A list of [agents] a seed.
    means = {"ours": [], "d3rlpy": []}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(given.seeds):
            started = time.perf_counter()
            policy = train_baseline(
                "bcq-p", data, iterations=given.iterations, seed=seed, out=Path(scratch) / f"{seed}", progress=False
            )
            print(f"seed {seed}: ours {given.iterations / (time.perf_counter() - started):.0f} updates/s", flush=True)
            means["ours"].append(_mean_returns(policy, spec.domain, agents, given.episodes))
            other = D3rlpyPolicy(given.d3rlpy, data, policy, Path(scratch), seed)
            print(f"seed {seed}: d3rlpy {other.updates_per_second:.0f} updates/s", flush=True)
            means["d3rlpy"].append(_mean_returns(other, spec.domain, agents, given.episodes))
            other.close()
    print(f"{spec.name}: BCQ-P, {given.iterations:,} updates, {given.seeds} seeds, {given.episodes} episodes each")
    print("mean return and its 95 % t-interval over seeds")
    print(f"{'agent':>6} {'ours':>28} {'d3rlpy':>28}  ours in d3rlpy's interval")
    ours, theirs = (np.array(means[name]) for name in ("ours", "d3rlpy"))  # [seeds, agents]
    rows = [*zip(map(str, agents), ours.T, theirs.T, strict=True), ("all", ours.mean(1), theirs.mean(1))]
    for agent, mine, own in rows:
        (mean, low, high), (mean_d, low_d, high_d) = _interval(mine), _interval(own)
        texts = f"{mean:.1f} ({low:.1f} to {high:.1f})", f"{mean_d:.1f} ({low_d:.1f} to {high_d:.1f})"
        print(f"{agent:>6} {texts[0]:>28} {texts[1]:>28}  {'yes' if low_d <= mean <= high_d else 'no'}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--d3rlpy", required=True, help="Python of a virtual environment with d3rlpy 2.8")
    parser.add_argument("--dataset", default="cartpole/pure-v0")
    parser.add_argument("--agents", default="0-4")
    parser.add_argument("--iterations", type=int, default=20_000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--episodes", type=int, default=100)
    return parser.parse_args()


def _mean_returns(policy, domain, agents: list[int], episodes: int) -> list[float]:
    from persim_gym.evaluation.returns import episode_returns

    return [float(episode_returns(policy, domain, agent, episodes=episodes, seed=1).mean()) for agent in agents]


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean and its 95 % interval by Student's t; infinite for one value."""
    from scipy import stats

    mean, count = float(values.mean()), len(values)
    if count < 2:
        return mean, -np.inf, np.inf
    half = float(stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count))
    return mean, mean - half, mean + half


class D3rlpyPolicy:
    """d3rlpy's BCQ, trained in its own process and asked for actions there."""

    def __init__(self, python: str, data, policy, scratch: Path, seed: int) -> None:
        """Trains on `data` with the settings of our `policy`."""
        ends = np.append(np.diff(data.trajectory) != 0, True)
        file, how = scratch / "data.npz", {"settings": policy.card.settings, "seed": seed}
        np.savez(
            file, observations=data.obs, actions=data.action, rewards=data.reward, terminals=data.terminated,
            timeouts=ends & ~data.terminated,
        )  # fmt: skip
        command = [python, __file__, SERVE, str(file), json.dumps(how)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.updates_per_second = float(self._process.stdout.readline())

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        print(json.dumps(np.asarray(observation).tolist()), file=self._process.stdin, flush=True)
        return np.array(json.loads(self._process.stdout.readline())), None

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait()


def serve(file: str, how: str) -> None:
    """In d3rlpy's process: trains, says how fast, and answers observations with actions until the pipe is closed."""
    # What d3rlpy prints shall not get among the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    import d3rlpy
    import torch
    from d3rlpy.logging import NoopAdapterFactory
    from d3rlpy.models import VectorEncoderFactory
    from d3rlpy.torch_utility import soft_sync

    torch.set_num_threads(1)
    given = json.loads(how)
    settings, arrays = given["settings"], dict(np.load(file))
    discrete = arrays["actions"].ndim == 1
    d3rlpy.seed(given["seed"])
    arrays = {name: values.astype(np.float32) if values.dtype == bool else values for name, values in arrays.items()}
    dataset = d3rlpy.dataset.MDPDataset(**arrays)
    common = {"gamma": settings["discount"], "batch_size": settings["batch"]}
    encoder = VectorEncoderFactory(settings["layers"])
    if discrete:
        algorithm = d3rlpy.algos.DiscreteBCQConfig(
            learning_rate=settings["learning_rate"], encoder_factory=encoder, share_encoder=False,
            action_flexibility=settings["threshold"], beta=settings["logit_weight"], target_update_interval=1,
            **common,
        ).create()  # fmt: skip
    else:
        generative, rate = VectorEncoderFactory(settings["generative_layers"]), settings["learning_rate"]
        algorithm = d3rlpy.algos.BCQConfig(
            actor_learning_rate=rate, critic_learning_rate=rate, imitator_learning_rate=rate,
            actor_encoder_factory=encoder, critic_encoder_factory=encoder, imitator_encoder_factory=generative,
            tau=settings["target_rate"], lam=settings["minimum_weight"], n_action_samples=settings["proposals"],
            action_flexibility=settings["perturbation"], beta=settings["divergence_weight"], **common,
        ).create()  # fmt: skip
    algorithm.build_with_dataset(dataset)
    if discrete:
        modules, rate = algorithm.impl.modules, settings["target_rate"]
        algorithm.impl.update_target = lambda: soft_sync(modules.targ_q_funcs, modules.q_funcs, rate)
    started, steps = time.perf_counter(), settings["iterations"]
    algorithm.fit(
        dataset, n_steps=steps, n_steps_per_epoch=steps, logger_adapter=NoopAdapterFactory(), show_progress=False
    )
    if not discrete:
        algorithm.impl._n_action_samples = settings["acting_proposals"]
    print(steps / (time.perf_counter() - started), file=answers, flush=True)
    for line in sys.stdin:
        action = algorithm.predict(np.array(json.loads(line), dtype=np.float32))
        print(json.dumps(action.tolist()), file=answers, flush=True)


if __name__ == "__main__":
    if SERVE in sys.argv:
        serve(*sys.argv[2:])
    else:
        main()

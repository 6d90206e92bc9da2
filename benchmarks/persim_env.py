"""Steps a second inside learned environments: ours beside plain torch, TorchRL and Gymnasium's own, in one run.

Every peer predicts with an ensemble of five members of the same hidden layers, takes their mean and asks the same
reward and end of episode. `torch MLP` is a multilayer perceptron on (observation, action) with our hidden layers,
measured with rows first and with features first; for continuous actions it needs 40 % fewer multiplications than the
factored model, whose action encoder and rank R come on top. `torch factored` is the factored model itself, written in
plain torch. Peers neither reset, nor check actions, nor report disagreement; ours does all three. A model step is one
member's prediction of one row. Rounds of all alternate, so that a busy machine slows all of them alike; the table
shows medians over rounds.

    pip install -e '.[benchmarks]'
    OMP_NUM_THREADS=1 python benchmarks/persim_env.py
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np
import torch
from tensordict import TensorDict
from tensordict.nn import TensorDictModule
from torchrl.data import Bounded, Categorical, Composite, Unbounded
from torchrl.envs import EnvBase

import persim_gym  # noqa: F401
from persim_gym.envs import DOMAINS
from persim_gym.envs.spaces import random_actions
from persim_gym.simulator.model.config import ModelConfig
from persim_gym.simulator.model.ensemble import FactoredEnsemble
from persim_gym.simulator.model_card import SimulatorCard, library_versions
from persim_gym.simulator.registry import find_simulator
from persim_gym.simulator.simulator import Simulator

MEMBERS = 5
CLOCK = time.perf_counter
CHEETAH = ModelConfig(  # layers of thesis appendix A.1; the speed does not depend on the weights
    n_agents=5, obs_dim=18, n_actions=0, action_dim=6, rank=15, state_layers=(256,) * 4, action_layers=(256, 256)
)


def layers(shape: ModelConfig) -> list[int]:
    """Sizes of the peers' layers, inputs first."""
    return [shape.obs_dim + max(shape.action_dim, 1), *shape.state_layers, shape.obs_dim]


class TorchEnsemble(torch.nn.Module):
    """An ensemble of perceptrons in batched matrix products; [B, D] and actions to the mean next observation."""

    def __init__(self, shape: ModelConfig, rows_first: bool) -> None:
        super().__init__()
        self.rows_first = rows_first
        self.activate = torch.nn.functional.silu if shape.activation == "silu" else torch.relu
        sizes = layers(shape)
        generator = torch.Generator().manual_seed(0)
        turn = (0, 1, 2) if rows_first else (0, 2, 1)
        self.weights, self.biases = [], []
        for i, o in zip(sizes[:-1], sizes[1:], strict=True):
            weight = torch.randn(MEMBERS, i, o, generator=generator) * 0.1 / np.sqrt(i)
            self.weights.append(weight.permute(turn).contiguous())
            self.biases.append(torch.zeros(MEMBERS, 1, o).permute(turn).contiguous())

    @torch.no_grad()
    def forward(self, obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        action = action.float().reshape(len(obs), -1)
        x = torch.cat([obs, action], dim=1)
        # A copy a member: strides of 0 are several times slower.
        x = (x if self.rows_first else x.T).repeat(MEMBERS, 1, 1)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight) if self.rows_first else torch.baddbmm(bias, weight, x)
            if i < len(self.weights) - 1:
                x = self.activate(x)
        change = x.mean(0)
        return obs + (change if self.rows_first else change.T)


class TorchRLEnv(EnvBase):
    """The same ensemble as a TorchRL environment."""

    def __init__(self, domain: str, world: torch.nn.Module, rows: int, obs: torch.Tensor) -> None:
        super().__init__(batch_size=[rows])
        self.domain, self.start = DOMAINS[domain], obs
        self.world = TensorDictModule(world, in_keys=["observation", "action"], out_keys=["observation"])
        space = self.domain.action_space
        self.observation_spec = Composite(observation=Unbounded(obs.shape), shape=[rows])
        self.action_spec = (
            Categorical(int(space.n), shape=[rows])
            if isinstance(space, gym.spaces.Discrete)
            else Bounded(-1.0, 1.0, (rows, *space.shape))
        )
        self.reward_spec = Unbounded((rows, 1))

    def _reset(self, tensordict: TensorDict | None = None, **kwargs: object) -> TensorDict:
        return TensorDict({"observation": self.start}, self.batch_size)

    def _step(self, tensordict: TensorDict) -> TensorDict:
        after = self.world(tensordict.select("observation", "action"))["observation"]
        task = self.domain.task
        reward = task.reward(tensordict["observation"], tensordict["action"], after)
        done = task.terminated(after)
        return TensorDict({"observation": after, "reward": reward[:, None], "done": done[:, None]}, self.batch_size)

    def _set_seed(self, seed: int | None) -> None:
        torch.manual_seed(seed or 0)


def torch_step(world: Callable[..., torch.Tensor], domain: str, obs: torch.Tensor) -> Callable[[torch.Tensor], object]:
    """A step of a hand-written environment in torch: prediction, reward, end of episode."""
    task = DOMAINS[domain].task

    def step(action: torch.Tensor) -> object:
        after = world(obs, action)
        return after, task.reward(obs, action, after), task.terminated(after)

    return step


def factored(model: FactoredEnsemble) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The factored model in plain torch, rows first."""
    which = torch.zeros(1, dtype=torch.int64)

    @torch.no_grad()
    def predict(obs: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
        return model.predict(which.expand(len(obs)), obs, action).mean(0)

    return predict


def measure(steps: dict[str, Callable[[int], object]], calls: dict[str, int], rounds: int) -> dict[str, list[float]]:
    """Calls a second of each, by round."""
    speeds: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        for i in range(3):
            step(i)
    for _ in range(rounds):
        for name, step in steps.items():
            start = CLOCK()
            for i in range(calls[name]):
                step(i)
            speeds[name].append(calls[name] / (CLOCK() - start))
    return speeds


def report(title: str, speeds: dict[str, list[float]], per_call: dict[str, int], unit: str, peers: list[str]) -> None:
    """Prints medians, and ours over the best peer's of the same round."""
    print(f"\n{title}\n{'':34}{unit + ' a second':>24}{'ours / it':>12}")
    ours = np.array(speeds["PersimEnv"]) * per_call["PersimEnv"]
    for name, values in speeds.items():
        these = np.array(values) * per_call[name]
        print(f"{name:34}{np.median(these):24,.0f}{np.median(ours / these):12.2f}")
    best = np.max([np.array(speeds[name]) * per_call[name] for name in peers], axis=0)
    print(f"ours over the best peer: {np.median(ours / best):.2f}")


def batched(name: str, simulator: str, rows: int, rounds: int, calls: int) -> None:
    """Rows of one agent in each environment; ours also with rows of several agents."""
    domain, rng = DOMAINS[name], np.random.default_rng(0)
    env = gym.make_vec("PersimEnv-v0", num_envs=rows, agents=[0] * rows, simulator=simulator)
    env.reset(seed=0)
    model = env.unwrapped.simulator.model
    actions = [random_actions(domain.action_space, rng, rows) for _ in range(16)]
    moved = [torch.from_numpy(a) for a in actions]
    obs = torch.from_numpy(env.unwrapped._observation())
    steps: dict[str, Callable[[int], object]] = {"PersimEnv": lambda i: env.step(actions[i % 16])}
    for title, world in (
        ("torch MLP, rows first", TorchEnsemble(model.config, True)),
        ("torch MLP, features first", TorchEnsemble(model.config, False)),
        ("torch factored", factored(model)),
    ):
        step = torch_step(world, name, obs)
        steps[title] = lambda i, step=step: step(moved[i % 16])
    rl = TorchRLEnv(name, TorchEnsemble(model.config, True), rows, obs)
    held = rl.reset()
    steps["TorchRL env.step"] = lambda i: rl.step(held.set("action", moved[i % 16]))
    peers = [title for title in steps if title != "PersimEnv"]
    different = min(50, model.config.n_agents)
    agents = [i % different for i in range(rows)]
    mixed = gym.make_vec("PersimEnv-v0", num_envs=rows, agents=agents, simulator=simulator)
    mixed.reset(seed=0)
    steps[f"PersimEnv, rows of {different} agents"] = lambda i: mixed.step(actions[i % 16])
    per_call = {title: rows * MEMBERS for title in steps}
    if name == "cartpole":
        true = gym.make_vec("CartPole-v1", rows, vectorization_mode="vector_entry_point")
        true.reset(seed=0)
        steps["Gymnasium CartPoleVectorEnv (1x)"] = lambda i: true.step(actions[i % 16])
    else:
        mujoco.set_mju_user_warning(lambda message: None)  # Gymnasium's file uses a deprecated attribute
        true = gym.make_vec("HalfCheetah-v5", 16, vectorization_mode="sync")
        true.reset(seed=0)
        steps["Gymnasium HalfCheetah-v5, sync (1x)"] = lambda i: true.step(actions[i % 16][:16])
    title = list(steps)[-1]
    per_call[title] = rows if name == "cartpole" else 16
    speeds = measure(steps, {t: calls for t in steps}, rounds)
    report(
        f"{domain.title}: {rows} rows, {model.config.state_layers} hidden units", speeds, per_call, "model steps", peers
    )


def single(simulator: str, rounds: int) -> None:
    """One row at a time."""
    env = gym.make("PersimEnv-v0", agent=0, simulator=simulator).unwrapped
    name = env.domain.name
    env.reset(seed=0)
    shape = env.simulator.model.config
    actions = np.random.default_rng(0).integers(shape.n_actions, size=16)
    obs = torch.from_numpy(env.reset(seed=0)[0])[None]
    moved = [torch.tensor([a]) for a in actions]
    mlp = torch_step(TorchEnsemble(shape, True), name, obs)
    rl = TorchRLEnv(name, TorchEnsemble(shape, True), 1, obs)
    held = rl.reset()
    true = gym.make("MountainCar-v0").unwrapped
    true.reset(seed=0)
    steps: dict[str, Callable[[int], object]] = {
        "PersimEnv": lambda i: env.step(actions[i % 16]),
        "torch MLP, rows first": lambda i: mlp(moved[i % 16]),
        "TorchRL env.step": lambda i: rl.step(held.set("action", moved[i % 16])),
        "Gymnasium MountainCar-v0 (true)": lambda i: true.step(actions[i % 16]),
    }
    calls = {title: 30 if title.startswith("TorchRL") else 300 for title in steps}
    speeds = measure(steps, calls, rounds)
    report(f"{env.domain.title}: one row, five members", speeds, dict.fromkeys(steps, 1), "steps", list(steps)[1:3])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1024, help="rows (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=30, help="alternating rounds (default: %(default)s)")
    parser.add_argument("--cpu", action="store_true", help="processor time, on a busy machine; one thread only")
    arguments = parser.parse_args()
    if arguments.cpu:
        global CLOCK
        CLOCK = time.thread_time
    threads = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1))
    torch.set_num_threads(threads)
    print(f"torch and NumPy on {threads} threads; our kernels of small models on one")
    single("mountaincar/random-v0", arguments.rounds)
    batched("cartpole", str(find_simulator("cartpole/random-v0")), arguments.rows, arguments.rounds, 10)
    with tempfile.TemporaryDirectory() as scratch:
        model = FactoredEnsemble(CHEETAH)
        model.delta_std.fill_(0.01)
        card = SimulatorCard(
            name="halfcheetah/random-v0", domain="halfcheetah", dataset="none: random weights", dataset_hash="",
            transitions=0, recipe_name="random weights", recipe={}, seed=0, training_seconds=0.0,
            shape=model.config.to_json(), libraries=library_versions(),
        )  # fmt: skip
        folder = Simulator.of(card, model).save(Path(scratch) / "cheetah")
        batched("halfcheetah", str(folder), arguments.rows, max(arguments.rounds // 3, 1), 1)


if __name__ == "__main__":
    main()

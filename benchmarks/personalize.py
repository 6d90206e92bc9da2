"""What it costs to learn about an agent: `python benchmarks/personalize.py [simulator]`, on one thread."""

import sys
import time

import numpy as np
import torch

from persim_gym.simulator.inference.posterior import FactorPosterior
from persim_gym.simulator.inference.regression import gather_statistics
from persim_gym.simulator.registry import load_simulator
from persim_gym.transitions import Transitions


def random_transitions(shape, agents: int, each: int) -> Transitions:
    rng, k = np.random.default_rng(0), agents * each
    obs = rng.normal(size=(k, shape.obs_dim)).astype(np.float32)
    action = (
        rng.integers(shape.n_actions, size=k)
        if shape.n_actions
        else rng.uniform(-1, 1, (k, shape.action_dim)).astype(np.float32)
    )
    next_obs = obs + 0.01 * rng.normal(size=obs.shape).astype(np.float32)
    agent, zeros = np.repeat(np.arange(agents), each), np.zeros(k, dtype=np.float32)
    return Transitions(agent, obs, action, zeros, next_obs, zeros > 0, agent, agents)


def milliseconds(call, repeats: int) -> float:
    call()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return 1000 * float(np.median(times))


def main(name: str) -> None:
    torch.set_num_threads(1)
    simulator = load_simulator(name)
    shape, prior = simulator.model.config, simulator.known_beliefs().prior
    prior.precision, prior.component_precision  # noqa: B018  computed once, kept
    one = random_transitions(shape, 1, 1)
    online = simulator.online()
    print(f"{simulator.card.name}: rank {shape.rank}, {shape.members} members")
    update = milliseconds(lambda: online.update(one.obs, one.action, one.next_obs), 300)
    print(f"one transition into the evidence      {update:8.3f} ms")

    def learn_and_fold():
        online.update(one.obs, one.action, one.next_obs)
        _ = online.factor

    print(f"… solved and folded into the weights  {milliseconds(learn_and_fold, 300):8.3f} ms")
    for agents, each in ((1, 20), (1, 1000), (500, 100)):
        data = random_transitions(shape, agents, each)
        took = milliseconds(
            lambda d=data: FactorPosterior(prior, gather_statistics(simulator.model, prior.noise, d)).mean, 5
        )
        print(f"{agents:4d} new agents, {each:4d} transitions each {took:8.1f} ms")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "cartpole/random-v0")

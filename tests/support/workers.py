"""Everything that a worker process may be asked for, done in this process and in one that it starts.

`python -m support.workers METHOD ROBOT` with METHOD one of fork, spawn and forkserver, and ROBOT the folder of a small
simulator of a robot. Torch has used two threads here before, as it has in any process that trained something.
"""

import faulthandler
import multiprocessing
import signal
import sys
from functools import partial

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.vec_env import SubprocVecEnv

from persim_gym.planning import CEM, MPC, RandomShooting
from persim_gym.sb3 import make_vec_env
from persim_gym.simulator.registry import load_simulator
from persim_gym.transitions import Transitions

ENV = "persim_gym:PersimEnv-v0"
CARS, POLES = "mountaincar/random-v0", "cartpole/random-v0"
PATIENCE = 120  # Seconds; a worker that takes longer hangs.


def everything(robot):
    """One number or array for each entry point, by name."""
    done = {}
    for name, simulator in (("cars", CARS), ("poles", POLES), ("robots", robot)):
        done |= {f"{name}: {what}": value for what, value in steps(simulator).items()}
        done[f"{name}: plan"] = plan(simulator)
    done["draw"] = episode(gym.make(ENV, agent=2, simulator=POLES, factor="sample"))
    rows = gym.make_vec(ENV, num_envs=3, agents=[2, 2, 4], simulator=POLES, factor="sample")
    done["draws"] = episode(rows)
    return done | learned()


def steps(simulator):
    """Observations of environments of one and of many rows."""
    rows = gym.make_vec(ENV, num_envs=3, agents=[0, 1, 1], simulator=simulator)
    sb3 = make_vec_env(agents=[0, 1, 2], n_envs=3, simulator=simulator, seed=0)
    sb3.reset()
    action = np.zeros((3, *sb3.action_space.shape), dtype=sb3.action_space.dtype)
    return {
        "one": episode(gym.make(ENV, agent=1, simulator=simulator)),
        "many": episode(rows),
        "sb3": sb3.step(action)[0],
    }


def episode(env):
    """The observation after a few actions."""
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(3):
        obs = env.step(env.action_space.sample())[0]
    return obs


def plan(simulator):
    """A planned action, and a prediction of the dynamics."""
    loaded = load_simulator(simulator)
    dynamics, space = loaded.dynamics(1), loaded.action_space
    planner = RandomShooting(200, 10) if isinstance(space, gym.spaces.Discrete) else CEM(50, 5, 2, elites=5)
    obs = np.zeros(loaded.observation_space.shape, dtype=np.float32)
    action, _ = MPC(dynamics, loaded.task, space, planner=planner).predict(obs)
    return np.append(np.ravel(action), dynamics(obs[None], np.asarray(action)[None]))


def learned():
    """What is learned of agents."""
    loaded = load_simulator(POLES)
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(50, 4)).astype(np.float32) * 0.1
    action, zeros = rng.integers(2, size=50), np.zeros(50, dtype=np.float32)
    online = loaded.online(3)
    online.update(obs, action, obs + 0.01)
    agent = np.zeros(50, dtype=np.int64)
    data = Transitions(agent, obs, action, zeros, obs + np.float32(0.01), zeros > 0, agent, 1, "made up")
    new = loaded.personalize(data)
    env = gym.make(ENV, agent=3, simulator=POLES)
    env.reset(seed=0)
    env.unwrapped.learn(obs, action, obs + 0.01)
    return {"online": online.factor, "personalize": new.model.agent_encoder.factor[:, -1], "learn": env.step(1)[0]}


def end_after(seconds):
    """Ends this process with a traceback after so many seconds."""
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(seconds)


def work(robot, send):
    """Does everything in a worker, and says so."""
    end_after(PATIENCE)
    send.send({name: np.asarray(value) for name, value in everything(robot).items()})


def in_subprocesses(method):
    """Compares Stable-Baselines3's and Gymnasium's own workers with the same environments here."""
    makers = [partial(gym.make, ENV, agent=3, simulator=POLES, factor=factor) for factor in ("mean", "sample")]
    singles = [make() for make in makers]
    for i, env in enumerate(singles):
        env.reset(seed=5 + i)
    here = np.stack([env.step(1)[0] for env in singles])
    sub = SubprocVecEnv(makers, start_method=method)
    sub.seed(5)
    sub.reset()
    rows = gym.vector.AsyncVectorEnv(makers, context=method, shared_memory=False)
    rows.reset(seed=[5, 6])
    for env in (sub, rows):
        np.testing.assert_allclose(env.step(np.array([1, 1]))[0], here, atol=1e-6)
        env.close()


def main(method, robot):
    """Compares this process and a worker."""
    end_after(2 * PATIENCE)
    torch.set_num_threads(2)
    torch.nn.Linear(512, 512)(torch.randn(512, 512)).sum().backward()
    here = everything(robot)
    context = multiprocessing.get_context(method)
    receive, send = context.Pipe(duplex=False)
    worker = context.Process(target=work, args=(robot, send), daemon=True)
    worker.start()
    send.close()
    there = receive.recv()
    worker.join()
    assert set(there) == set(here)
    for name, value in here.items():
        np.testing.assert_allclose(there[name], value, rtol=1e-4, atol=1e-5, err_msg=name)
    in_subprocesses(method)
    print(len(here), "entry points")


if __name__ == "__main__":
    main(*sys.argv[1:])

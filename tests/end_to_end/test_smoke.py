"""What must work right after installation, away from the checkout."""

import subprocess
import sys

import gymnasium as gym
import numpy as np

from persim_gym.simulator.kernels.dense import byte_products


def test_the_bundled_simulator_runs_without_an_import():
    code = (
        "import gymnasium as gym\n"
        "env = gym.make('persim_gym:PersimEnv-v0', agent=17)\n"
        "obs, _ = env.reset(seed=0)\n"
        "obs, reward, terminated, truncated, info = env.step(2)\n"
        "assert env.observation_space.contains(obs) and reward == -1.0 and info['disagreement'] >= 0\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_truth_beside_it_is_the_same_agent():
    true = gym.make("persim_gym:HeteroMountainCar-v0", agent=17)
    learned = gym.make("persim_gym:PersimEnv-v0", agent=17)
    a, b = true.reset(seed=3)[0], learned.reset(seed=3)[0]
    np.testing.assert_array_equal(a, b)
    for action in [2] * 20:
        a, b = true.step(action)[0], learned.step(action)[0]
    np.testing.assert_allclose(a, b, atol=2e-3)


def test_the_command_line_says_what_is_installed():
    done = subprocess.run([sys.executable, "-m", "persim_gym", "doctor"], capture_output=True, text=True, check=True)
    assert "cartpole/random-v0" in done.stdout and "mountaincar/random-v0" in done.stdout
    assert (byte_products().name if byte_products() else "float32 only") in done.stdout

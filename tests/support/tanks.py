"""Logs of tanks that fill and drain: data of no environment."""

import minari
import numpy as np
from gymnasium import spaces
from minari.data_collector import EpisodeBuffer

AGENTS = 8


def tank_logs(seed: int = 0, steps: int = 60) -> list[dict[str, np.ndarray]]:
    """Tanks that fill or drain; agents differ in their pump. Reward: distance to level 1; ends above level 2."""
    rng = np.random.default_rng(seed)
    logs = []
    for agent in range(AGENTS):
        obs = [np.array([rng.uniform(0, 1.5), 0.0])]
        action = rng.integers(2, size=steps)
        for a in action:
            level, flow = obs[-1]
            flow = 0.8 * flow + (0.02 + 0.01 * agent) * (1 if a else -1)
            obs.append(np.array([level + flow, flow]))
        observations = np.array(obs, dtype=np.float32)
        over = np.abs(observations[1:, 0]) > 2
        length = int(np.argmax(over)) + 1 if over.any() else steps
        terminations = over[:length]
        truncations = np.zeros(length, dtype=bool)
        truncations[-1] = not terminations[-1]
        logs.append(
            {
                "observations": observations[: length + 1],
                "actions": action[:length],
                "rewards": -np.abs(observations[1 : length + 1, 0] - 1),
                "terminations": terminations,
                "truncations": truncations,
            }
        )
    return logs


def tanks_of(name, agents, box=None, action_space=None, **changes):
    """A dataset of tanks with other arrays, agents or spaces; an agent of None is named nowhere."""
    logs = [
        {**log, **{key: change(log.get(key)) for key, change in changes.items()}} for log in tank_logs()[: len(agents)]
    ]
    named = [{} if agent is None else {"options": {"agent": agent}} for agent in agents]
    buffers = [EpisodeBuffer(**log, **names) for log, names in zip(logs, named, strict=True)]
    box = spaces.Box(-np.inf, np.inf, (2,), np.float64) if box is None else box
    minari.create_dataset_from_buffers(
        name, buffers, observation_space=box, action_space=spaces.Discrete(2) if action_space is None else action_space
    )
    return name

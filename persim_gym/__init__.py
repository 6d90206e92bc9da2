"""Personalized simulators of many different agents, learned from one logged trajectory each.

Importing this package registers its environments with Gymnasium; it loads neither torch, Stable-Baselines3, Minari nor
MuJoCo.
"""

import gymnasium

from persim_gym.envs import DOMAINS
from persim_gym.paths import find_room_for_compiled_code
from persim_gym.version import __version__

__all__ = ["DOMAINS", "__version__"]

find_room_for_compiled_code()

for _domain in DOMAINS.values():
    gymnasium.register(
        id=_domain.env_id,
        entry_point="persim_gym.envs.hetero:HeteroEnv",
        vector_entry_point="persim_gym.envs.hetero:HeteroVectorEnv",
        kwargs={"domain": _domain.name},
        max_episode_steps=_domain.episode_steps,
    )

gymnasium.register(
    id="PersimEnv-v0",
    entry_point="persim_gym.persim_env.env:PersimEnv",
    vector_entry_point="persim_gym.persim_env.vector:PersimVectorEnv",
)

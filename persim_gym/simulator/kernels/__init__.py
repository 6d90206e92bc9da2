"""Compiled code on plain arrays: predictions, rollouts and training steps; knows no model."""

from persim_gym.paths import find_room_for_compiled_code

find_room_for_compiled_code()

"""Pictures of robots need a display only where a window is asked for."""

import gymnasium as gym
import pytest


def test_a_window_without_a_display_is_a_clear_error(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    env = gym.make("HeteroHalfCheetah-v0", render_mode="human")
    with pytest.raises(RuntimeError, match="there is no display"):
        env.reset(seed=0)

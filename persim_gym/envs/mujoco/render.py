"""Gymnasium's drawing of MuJoCo robots, in a window or off-screen."""

import contextlib
import copy
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from persim_gym.envs.mujoco.physics import Robot, load_model, mujoco_library
from persim_gym.extras import required

IMAGE_SIZE = 480  # pixels, width and height, as in Gymnasium


class RobotRenderer:
    """Gymnasium's own drawing of a robot."""

    def __init__(self, robot: Robot, render_mode: str, covariates: Mapping[str, float]) -> None:
        """Opens the graphics; mass and damping do not show.

        Raises:
            MissingExtraError: If what Gymnasium draws with is not installed.
            RuntimeError: If there is neither a display nor an off-screen OpenGL.
        """
        drawing = required(
            "gymnasium.envs.mujoco.mujoco_rendering", "robots", "drawing robots needs what Gymnasium draws them with"
        )
        self._robot = robot
        self._render_mode = render_mode
        self._model = copy.copy(load_model(robot.xml))
        self._data = mujoco_library().MjData(self._model)
        self._renderer = drawing.MujocoRenderer(
            self._model, self._data, width=IMAGE_SIZE, height=IMAGE_SIZE, camera_name="track"
        )

    def render(self, state: NDArray[np.float64]) -> Any:
        """Draws a state, [S].

        Raises:
            RuntimeError: If there is neither a display nor an off-screen OpenGL.
        """
        self._data.qpos[:] = state[self._robot.qpos]
        self._data.qvel[:] = state[self._robot.qvel]
        mujoco_library().mj_forward(self._model, self._data)
        with _opengl_backend(self._render_mode):
            return self._renderer.render(self._render_mode)

    def close(self) -> None:
        """Closes the window."""
        self._renderer.close()


@contextlib.contextmanager
def _opengl_backend(render_mode: str) -> Iterator[None]:
    """Lets Gymnasium draw off-screen through EGL where no display is: by itself it tries the display and fails."""
    headless = sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    if headless and render_mode == "human":
        raise RuntimeError("there is no display (DISPLAY is not set); use render_mode='rgb_array'")
    choose = headless and "MUJOCO_GL" not in os.environ
    if choose:  # Gymnasium offers no other way to choose
        os.environ["MUJOCO_GL"] = "egl"
    try:
        yield
    except Exception as error:
        raise RuntimeError(
            f"OpenGL does not start ({error}); without a display, install EGL (Debian: libegl1) or set MUJOCO_GL=osmesa"
        ) from error
    finally:
        if choose:
            del os.environ["MUJOCO_GL"]

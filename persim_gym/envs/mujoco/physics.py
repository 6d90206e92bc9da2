"""Batched MuJoCo physics of Gymnasium's robots with scaled masses and joint damping.

MuJoCo is imported inside the functions: importing this module loads no MuJoCo.
"""

import functools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import gymnasium
import numpy as np
from numpy.typing import NDArray

from persim_gym.extras import MissingExtraError, required, version_of
from persim_gym.task import Array

Noise: TypeAlias = Callable[[np.random.Generator, tuple[int, int]], NDArray[np.float64]]
"""Maps (generator, shape) to what is added to the resting pose."""

_ROWS_PER_THREAD = 8  # With fewer rows, waking a second thread costs more than it brings.
_KEPT_BATCHES = 8


def mujoco_library() -> Any:
    """MuJoCo, imported when it is first needed.

    Raises:
        MissingExtraError: If it is not installed.
    """
    return required("mujoco", "robots", "robots need MuJoCo")


@functools.cache
def load_model(xml: str) -> Any:
    """Loads the MjModel of a file of Gymnasium's MuJoCo assets; shared, so copy it before you change it.

    Unlike Gymnasium's, a simulation that diverges is not put back into its resting pose in the middle of an episode:
    its state turns into huge numbers and NaN.

    Raises:
        MissingExtraError: If MuJoCo is not installed.
    """
    mujoco = mujoco_library()
    assets = os.path.join(os.path.dirname(gymnasium.__file__), "envs/mujoco/assets")
    warn = mujoco.get_mju_user_warning()
    # MuJoCo warns that Gymnasium's files use settotalmass, and fills a log file.
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        model = mujoco.MjModel.from_xml_path(os.path.join(assets, xml))
    finally:
        mujoco.set_mju_user_warning(warn)
    model.opt.disableflags |= int(mujoco.mjtDisableBit.mjDSBL_AUTORESET)
    return model


def thread_count() -> int:
    """Threads that large batches step on: one a core, at most OMP_NUM_THREADS as in NumPy and torch."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(limit)) if limit.isdecimal() and int(limit) > 0 else cores


@dataclass(frozen=True)
class Robot:
    """A MuJoCo model of Gymnasium's, and how its environment starts, steps and observes it.

    The full physical state, [..., S = 1 + nq + 2 nv], is (x velocity over the last step in m/s, qpos, qvel, and the
    acceleration from which the contact solver starts its next search). With the last part a step is a pure function
    of (state, action) that equals Gymnasium's bit for bit.

    Attributes:
        xml: File in Gymnasium's MuJoCo assets.
        frame_skip: Substeps of a step.
        nq: Size of qpos.
        nv: Size of qvel.
        unobserved: Leading entries of qpos that the observation leaves out: x, or x and y.
        position_noise: Noise on the initial qpos.
        velocity_noise: Noise on the initial qvel.
    """

    xml: str
    frame_skip: int
    nq: int
    nv: int
    unobserved: int
    position_noise: Noise
    velocity_noise: Noise

    @property
    def state_size(self) -> int:
        """S."""
        return 1 + self.nq + 2 * self.nv

    @property
    def qpos(self) -> slice:
        """Where qpos stands in the state."""
        return slice(1, 1 + self.nq)

    @property
    def qvel(self) -> slice:
        """Where qvel stands in the state."""
        return slice(1 + self.nq, 1 + self.nq + self.nv)

    def initial_state(self, rng: np.random.Generator, num: int) -> NDArray[np.float64]:
        """Draws initial states, [B, S]: the resting pose plus noise, in Gymnasium's order."""
        state = np.zeros((num, self.state_size))
        state[:, self.qpos] = load_model(self.xml).qpos0 + self.position_noise(rng, (num, self.nq))
        state[:, self.qvel] = self.velocity_noise(rng, (num, self.nv))
        return state

    def observe(self, state: Array) -> NDArray[np.float64]:
        """Observation of a state: (x velocity, qpos without its first entries, qvel), [..., D]."""
        return np.concatenate([state[..., :1], state[..., 1 + self.unobserved : 1 + self.nq + self.nv]], axis=-1)

    def embed(self, obs: Array) -> NDArray[np.float64]:
        """State [..., S] with this observation, at x = 0 (and y = 0), the contact solver starting afresh."""
        state = np.zeros((*np.shape(obs)[:-1], self.state_size))
        state[..., 0] = obs[..., 0]
        state[..., 1 + self.unobserved : 1 + self.nq + self.nv] = obs[..., 1:]
        return state

    def physics(self, mass: float | NDArray[np.float64], damping: float | NDArray[np.float64]) -> "RobotPhysics":
        """Step function of the full physical state, [..., S], under actions [..., A].

        Masses scale without inertias and the constants that MuJoCo derives when it compiles a model, as in the thesis.

        Args:
            mass: Factor of every body's mass; a float, or an array [B], one for each row.
            damping: Factor of every joint's damping; likewise.
        """
        return RobotPhysics(self, mass, damping)


class _Simulations(NamedTuple):
    """A MuJoCo batch and live views of it, shaped like the caller's rows.

    Attributes:
        batch: mujoco.batch.Batch of prod(rows) simulations, each with its own masses and damping.
        motion: (qpos, qvel, the solver's acceleration), [*rows, nq + 2 nv].
        control: [*rows, A].
    """

    batch: Any
    motion: NDArray[np.float64]
    control: NDArray[np.float64]


class RobotPhysics:
    """Steps states of robots with given covariates; pickles and copies as (robot, mass, damping).

    One thread at a time may call it.
    """

    def __init__(self, robot: Robot, mass: float | NDArray[np.float64], damping: float | NDArray[np.float64]) -> None:
        """Builds no simulation until the first call."""
        self.robot = robot
        self.mass = np.asarray(mass)
        self.damping = np.asarray(damping)
        self._simulations: dict[tuple[int, tuple[int, ...]], _Simulations] = {}

    def __reduce__(self) -> tuple[type["RobotPhysics"], tuple[Any, ...]]:
        """MuJoCo's own copies would lose the scaled masses."""
        return RobotPhysics, (self.robot, self.mass, self.damping)

    def __call__(self, state: Array, action: Array) -> NDArray[np.float64]:
        """Next state of each row, [..., S]; leading dimensions of state, action and covariates broadcast."""
        rows = np.broadcast_shapes(state.shape[:-1], action.shape[:-1], self.mass.shape)
        batch, motion, control = self._simulations_of(rows)
        motion[...] = state[..., 1:]
        control[...] = action
        batch.step(nstep=self.robot.frame_skip)
        next_state = np.empty((*rows, self.robot.state_size))
        next_state[..., 1:] = motion
        next_state[..., 0] = (next_state[..., 1] - state[..., 1]) / (batch.model.opt.timestep * self.robot.frame_skip)
        return next_state

    def rollout(
        self,
        state: Array,
        actions: Array,
        ended: Callable[[NDArray[np.float64]], NDArray[np.bool_]] | None = None,
        live: NDArray[np.bool_] | None = None,
    ) -> NDArray[np.float64]:
        """States that follow h actions, as h calls one after the other, with less copying.

        Args:
            state: [..., S].
            actions: [..., h, A]; leading dimensions broadcast.
            ended: Maps states, [..., S], to whether a row ends there: it is stepped no further, its state is repeated.
                None for nowhere.
            live: Which rows are stepped at all, [...]; None for all of them.

        Returns:
            [..., h, S].
        """
        rows = np.broadcast_shapes(state.shape[:-1], actions.shape[:-2], self.mass.shape)
        batch, motion, control = self._simulations_of(rows)
        motion[...] = state[..., 1:]
        states = np.empty((*rows, actions.shape[-2], self.robot.state_size))
        runs = np.ones(rows, dtype=np.bool_) if live is None else np.array(np.broadcast_to(live, rows))
        seconds = batch.model.opt.timestep * self.robot.frame_skip
        for t in range(actions.shape[-2]):
            following = states[..., t, :]
            control[...] = actions[..., t, :]
            batch.step(None if runs.all() else np.flatnonzero(runs), nstep=self.robot.frame_skip)
            following[..., 1:] = motion
            following[..., 0] = np.where(runs, (following[..., 1] - state[..., 1]) / seconds, state[..., 0])
            if ended is not None:
                runs &= ~ended(following)
            state = following
        return states

    def _simulations_of(self, rows: tuple[int, ...]) -> _Simulations:
        """Simulations for rows of this shape; a forked process makes its own, for it inherits no threads."""
        key = os.getpid(), rows
        if key not in self._simulations:
            mujoco_library()
            try:
                from mujoco.batch import Batch
            except ImportError as error:
                raise MissingExtraError(
                    "robots are stepped by mujoco.batch, of mujoco 4.0 and newer, which needs Python 3.11 or newer; "
                    f"installed is mujoco {version_of('mujoco')}"
                ) from error

            if len(self._simulations) >= _KEPT_BATCHES:
                del self._simulations[next(iter(self._simulations))]
            num = math.prod(rows)
            batch = Batch(load_model(self.robot.xml), num, max(1, min(thread_count(), num // _ROWS_PER_THREAD)))
            batch.expand("body_mass")[:] *= np.broadcast_to(self.mass, rows).reshape(num, 1)
            batch.expand("dof_damping")[:] *= np.broadcast_to(self.damping, rows).reshape(num, 1)
            motion = batch.state[:, 1 : self.robot.state_size]  # MuJoCo's rows begin with the time
            assert np.shares_memory(motion[:, -1], batch.qacc_warmstart[:, -1]), "MuJoCo's state is laid out otherwise"
            self._simulations[key] = _Simulations(
                batch, motion.reshape(*rows, -1), batch.ctrl.reshape(*rows, batch.model.nu)
            )
        return self._simulations[key]

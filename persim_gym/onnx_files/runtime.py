"""ONNX files in onnxruntime (extra `onnx`)."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEEDS_EXTRA = "ONNX files need onnx, onnxruntime and onnxscript: pip install 'persim-gym[onnx]'"


def open_session(path: Path) -> Any:
    """An onnxruntime session on one thread of the processor.

    Raises:
        ValueError: If there is no such file, it is no ONNX model, or onnxruntime is not installed.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(NEEDS_EXTRA) from error
    if not path.is_file():
        raise ValueError(f"no ONNX file {path}; write one: persim export POLICY --out {path}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(path.read_bytes(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # Its errors have no common class of their own.
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read as an ONNX model ({reason}); export it again") from error


class OnnxPolicy:
    """A policy of an ONNX file, with Stable-Baselines3's `predict`: its one input are observations, float32 [B, D].

    Its first output are the actions, int64 [B] or float32 [B, A], with nothing left to scale or to clip. `persim
    export` writes such files; those of other tools work too.

    Attributes:
        facts: What the file says of itself.
    """

    def __init__(self, path: str | Path) -> None:
        """Opens a file.

        Raises:
            ValueError: As `open_session`, or if it takes anything else than observations.
        """
        path = Path(path).expanduser()
        self._session = open_session(path)
        self.facts: dict[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        inputs = self._session.get_inputs()
        shape = inputs[0].shape if inputs else []
        rows = len(inputs) == 1 and len(shape) == 2 and isinstance(shape[1], int)
        if not rows or inputs[0].type != "tensor(float)":
            taken = ", ".join(f"{one.name} {one.type} {one.shape}" for one in inputs)
            raise ValueError(
                f"{path} is no policy: it takes {taken or 'nothing'}, not observations float32 [B, D] alone"
            )
        self._input, self._size = inputs[0].name, shape[1]
        self._output = self._session.get_outputs()[0].name

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = False
    ) -> tuple[NDArray[Any], None]:
        """Actions, as Stable-Baselines3's `predict` returns them; there is nothing random about them.

        Args:
            observation: [D] or [B, D].
            state: Ignored; there is no memory.
            episode_start: Ignored likewise.
            deterministic: Ignored likewise.

        Raises:
            ValueError: If the observations have another size than the policy's.
        """
        obs = np.asarray(observation, dtype=np.float32)
        if obs.ndim not in (1, 2) or obs.shape[-1] != self._size:
            raise ValueError(
                f"observations have shape {obs.shape}; this policy takes ({self._size},) or (B, {self._size})"
            )
        (actions,) = self._session.run([self._output], {self._input: np.atleast_2d(obs)})
        return (actions if obs.ndim == 2 else actions[0]), None

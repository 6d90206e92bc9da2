"""Writes a torch module as an ONNX file, once onnxruntime computes the same from it."""

import logging
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from persim_gym.onnx_files.runtime import NEEDS_EXTRA, open_session
from persim_gym.storage import SIGNATURE, check_own_file, replacing

TOLERANCE = 1e-5
"""Largest difference between what onnxruntime computes and what is expected; a share of values above 1."""
MADE_BY = "made_by"


def write_onnx(
    module: nn.Module,
    inputs: Mapping[str, NDArray[np.generic]],
    expected: Mapping[str, NDArray[np.generic]],
    path: str | Path,
    facts: Mapping[str, str],
    force: bool = False,
) -> float:
    """Writes a module, and checks it.

    Args:
        module: Takes tensors like `inputs`, in their order, and returns tensors like `expected`; all of B rows.
        inputs: Examples by name, [B, …] each; B is left open in the file.
        expected: What should come out of them, by name.
        path: The file.
        facts: What the file says of itself.
        force: Whether a file that is not of ours is replaced.

    Returns:
        The largest difference between what onnxruntime computes and what is expected.

    Raises:
        ValueError: If the extra is not installed, another file is there, or onnxruntime computes something else.
    """
    if not all(find_spec(name) for name in ("onnx", "onnxruntime", "onnxscript")):
        raise ValueError(NEEDS_EXTRA)
    path = Path(path).expanduser()
    check_own_file(path, force)
    with replacing(path) as new:
        _convert(module, inputs, list(expected), new, facts)
        outputs = open_session(new).run(list(expected), dict(inputs))
        worst = max(_difference(*pair) for pair in zip(outputs, expected.values(), strict=True))
        if not worst <= TOLERANCE:
            raise ValueError(
                f"{path} is not written: onnxruntime computes outputs that differ by {worst:.2g}, which is more than "
                f"{TOLERANCE:g}; try other versions of torch, onnxscript and onnxruntime"
            )
    return worst


def _convert(
    module: nn.Module,
    inputs: Mapping[str, NDArray[np.generic]],
    outputs: list[str],
    path: Path,
    facts: Mapping[str, str],
) -> None:
    import onnx

    logger, examples = logging.getLogger("torch.onnx"), tuple(torch.from_numpy(rows.copy()) for rows in inputs.values())
    level, rows = logger.level, torch.export.Dim("batch")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # Of the exporter about its own parts.
        logger.setLevel(logging.ERROR)
        try:
            program = torch.onnx.export(
                module.eval(),
                examples,
                dynamo=True,
                input_names=list(inputs),
                output_names=outputs,
                dynamic_shapes=tuple({0: rows} for _ in examples),
                verbose=False,
            )
        finally:
            logger.setLevel(level)
    assert program is not None  # It is where no file is named.
    model = program.model_proto
    onnx.helper.set_model_props(model, {MADE_BY: SIGNATURE, **facts})
    onnx.save_model(model, str(path))


def _difference(found: NDArray[np.generic], wanted: NDArray[np.generic]) -> float:
    """Largest difference, infinite where shapes or NaNs are not the same."""
    one, other = np.asarray(found, dtype=np.float64), np.asarray(wanted, dtype=np.float64)
    if one.shape != other.shape or not np.array_equal(np.isfinite(one), np.isfinite(other)):
        return float("inf")
    apart = np.abs(one - other) / np.maximum(1.0, np.abs(other))
    return float(np.nanmax(apart, initial=0.0))

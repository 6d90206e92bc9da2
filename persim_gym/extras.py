"""Packages that only some need: where one is missing, the error says in one line which extra brings it."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from typing import Any

EXTRAS = {
    "sb3": "stable-baselines3",
    "robots": "mujoco",
    "tables": "pyarrow",
    "video": "imageio-ffmpeg",
    "tensorboard": "tensorboard",
    "hub": "huggingface-hub",
    "onnx": "onnxruntime",
    "figures": "scikit-learn",
    "ray": "ray",
}
"""What `persim-gym[all]` brings: extras, and the package of each that says whether it is installed."""


class MissingExtraError(ImportError, ValueError):
    """A package is not installed that only some need."""


def required(module: str, extra: str, what: str) -> Any:
    """A module of a package that an extra brings.

    Args:
        module: Its name, as in an import.
        extra: Name of the extra.
        what: What needs it, such as "robots need MuJoCo"; begins the message.

    Returns:
        The module.

    Raises:
        MissingExtraError: If it cannot be imported; names the extra.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise MissingExtraError(f"{what}: pip install 'persim-gym[{extra}]' ({error})") from error


@contextmanager
def brought_by(extra: str, what: str) -> Iterator[None]:
    """Imports inside are of a package that an extra brings; as `required`, for modules whose classes build on it."""
    package = EXTRAS[extra].replace("-", "_")
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise MissingExtraError(f"{what}: pip install 'persim-gym[{extra}]' ({error})") from error


def version_of(package: str) -> str | None:
    """Version of a package, by its name in registries; None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None

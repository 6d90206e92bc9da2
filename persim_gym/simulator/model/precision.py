"""Everything here computes in float32 or better, whatever torch's settings are where it is called."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

Given = ParamSpec("Given")
Result = TypeVar("Result")


def without_autocast(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Decorates what multiplies float32 matrices: `torch.autocast` of the caller does not reach into it."""

    @wraps(function)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        active = [device for device in ("cpu", "cuda") if torch.is_autocast_enabled(device)]
        if not active:
            return function(*args, **kwargs)
        with ExitStack() as stack:
            for device in active:
                stack.enter_context(torch.autocast(device, enabled=False))
            return function(*args, **kwargs)

    return call


def in_default_precision(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """Decorates what other libraries compute for us: they take torch's defaults, which are float32 meanwhile.

    The default is the whole process's; code of our own does without it and says its types.
    """

    @wraps(function)
    def call(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        usual = torch.get_default_dtype()
        torch.set_default_dtype(torch.float32)
        try:
            return without_autocast(function)(*args, **kwargs)
        finally:
            torch.set_default_dtype(usual)

    return call

"""Weights of a file, which have to fit a module before memory is taken for it."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


def with_weights(make: Callable[[], Module], weights: Mapping[str, Tensor]) -> Module:
    """A module with weights that were read; a card that asks for more of them than there are takes no memory.

    Args:
        make: Makes the module as the card has it.
        weights: By name.

    Raises:
        ValueError: If a weight is missing, too many, or of another shape.
    """
    with torch.device("meta"):  # Tensors that have a shape, and take no memory.
        wanted = {name: values.shape for name, values in make().state_dict().items()}
    given = {name: values.shape for name, values in weights.items()}
    if different := [name for name in wanted | given if wanted.get(name) != given.get(name)]:
        raise ValueError(f"the weights do not fit the shape on the card (see {', '.join(sorted(different)[:3])})")
    module = make()
    module.load_state_dict(dict(weights))
    return module.eval().requires_grad_(False)

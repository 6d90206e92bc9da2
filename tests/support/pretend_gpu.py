"""A pretend CUDA device for machines without one: what runs on it computes real values, on the processor.

Inside `pretend_gpu()` a tensor is on the device if its storage was made there, so that views, `out=`, in-place
operations, `.data` and autograd are torch's own. Two modes see to the rest. One, on torch's Python functions, takes
`device="cuda"`, `.to`, `.cpu` and what asks a tensor where it is. The other, below autograd, sees every operation that
then runs: what an operation makes of tensors on the device is there too, one that mixes devices fails as CUDA has it
fail, and one that makes the processor wait for the device is listed.

Not pretended are CUDA's own kernels, their order of adding up, and what costs time there.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CUDA = torch.device("cuda:0")
CPU = torch.device("cpu")
_WAITS = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "unique_dim", "unique_consecutive"}
_ALL_ON_ONE = {"_fused_adam_", "_fused_adamw_"}  # not even a CPU tensor of no dimensions may be among these
_INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}  # by tensors on the CPU too


class PretendGpu(TorchDispatchMode):
    """The device's memory, and what its operations do.

    Attributes:
        waits: Name of each operation so far that made the processor wait: for a value, or a copy to or from the device.
        operations: Number of operations on the device so far: kernels, about.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.operations = 0
        self._held: dict[int, StorageWeakRef] = {}  # a weak reference keeps another storage from taking the number
        self._copying = False

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor is on the device."""
        with torch._C.DisableTorchFunction():
            return tensor.untyped_storage()._cdata in self._held

    def keep(self, tensor: Tensor) -> Tensor:
        """Puts a tensor's storage on the device."""
        with torch._C.DisableTorchFunction():
            storage = tensor.untyped_storage()
            self._held.setdefault(storage._cdata, StorageWeakRef(storage))
        return tensor

    def copied(self, tensor: Tensor, to_device: bool) -> Tensor:
        """A copy of a tensor, made by the processor."""
        self.waits.append("copy to the device" if to_device else "copy from the device")
        self._copying = True
        try:
            copy = tensor.clone()
        finally:
            self._copying = False
        return self.keep(copy) if to_device else copy

    @classmethod
    def _should_skip_dynamo(cls) -> bool:  # else torch imports all of its compiler at the first operation
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._copying:
            return func(*args, **kwargs)
        name = func.overloadpacket.__name__
        given = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        there = [x for x in given if self.holds(x)]
        if not there:
            return func(*args, **kwargs)
        self.operations += 1
        if name in ("copy_", "_copy_from"):
            if len(there) < 2:
                self.waits.append("copy")
            return func(*args, **kwargs)
        here = [x for x in given if not self.holds(x)]
        if name in _INDEXED:
            indices = [x for x in args[1] if x is not None]
            self._index(name, indices, args[2] if len(args) > 2 else None)
            here = [x for x in here if not any(x is index for index in indices)]
            if not self.holds(args[0]):
                raise RuntimeError("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        if any(x.ndim > 0 or name in _ALL_ON_ONE for x in here):
            raise RuntimeError(
                f"Expected all tensors to be on the same device, but {name} has some on cuda:0 and on cpu"
            )
        if name in _WAITS:
            self.waits.append(name)
        made = func(*args, **kwargs)
        for x in tree_leaves(made):
            if isinstance(x, Tensor):
                self.keep(x)
        return made

    def _index(self, name: str, indices: list[Tensor], value: Tensor | None) -> None:
        filled = value is not None and value.ndim == 0 and not self.holds(value)  # becomes a masked_fill
        for index in indices:
            if not self.holds(index):
                self.waits.append("copy to the device")
            elif index.dtype in (torch.bool, torch.uint8) and not (filled and len(indices) == 1):
                self.waits.append(f"{name} by a mask")


class _Placed(TorchFunctionMode):
    """Torch's Python functions, as a build for CUDA has them."""

    def __init__(self, gpu: PretendGpu) -> None:
        super().__init__()
        self._gpu = gpu
        self._special: dict[Any, Callable[..., Any]] = {
            Tensor.device.__get__: lambda x: CUDA if gpu.holds(x) else x.device,
            Tensor.is_cuda.__get__: gpu.holds,
            Tensor.is_cpu.__get__: lambda x: not gpu.holds(x),
            Tensor.get_device: lambda x: 0 if gpu.holds(x) else -1,
            Tensor.numpy: self._numpy,
            Tensor.__array__: self._numpy,
            Tensor.tolist: self._tolist,
            Tensor.to: self._to,
            Tensor.cpu: lambda x, *_, **__: self._moved(x, CPU),
            Tensor.cuda: lambda x, device="cuda", *_, **__: self._moved(x, device),
            Tensor.__deepcopy__: self._deepcopy,
        }

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in self._special:
            return self._special[func](*args, **kwargs)
        device = kwargs.get("device")
        if kwargs.get("generator") is not None:
            given = (x for x in args if isinstance(x, Tensor))
            _check_generator(kwargs["generator"], on_device(device) or any(map(self._gpu.holds, given)))
        if not on_device(device):
            return func(*args, **kwargs)
        made = func(*args, **{**kwargs, "device": CPU})
        if func in (torch.tensor, torch.as_tensor, torch.asarray):  # of what lies in the processor's memory
            return made if self._gpu.holds(made) else self._gpu.copied(made, True)
        return self._gpu.keep(made)

    def _moved(self, x: Tensor, device: Any) -> Tensor:
        if on_device(device) == self._gpu.holds(x):
            return x
        return self._gpu.copied(x, on_device(device))

    def _to(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
        for a in args:
            if isinstance(a, Tensor):
                device, dtype = CUDA if self._gpu.holds(a) else CPU, a.dtype
            elif isinstance(a, torch.dtype):
                dtype = a
            elif isinstance(a, str | torch.device):
                device = a
        x = x if device is None else self._moved(x, device)
        return x if dtype is None else x.to(dtype)

    def _deepcopy(self, x: Tensor, memo: Any) -> Tensor:
        copy = x.__deepcopy__(memo)
        return self._gpu.keep(copy) if self._gpu.holds(x) else copy

    def _numpy(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        if self._gpu.holds(x):
            raise TypeError(
                "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory."
            )
        return x.__array__(*args) if args else x.numpy(**kwargs)

    def _tolist(self, x: Tensor) -> Any:
        if self._gpu.holds(x):
            self._gpu.waits.append("tolist")
        return x.tolist()


class _Generator(torch.Generator):
    """A generator of either device."""

    def __new__(cls, device: Any = "cpu") -> "_Generator":
        made = super().__new__(cls)
        made.of_device = on_device(device)
        return made


def _check_generator(generator: torch.Generator, of_device: bool) -> None:
    if getattr(generator, "of_device", False) != of_device:
        raise RuntimeError("Expected a generator of the device that the tensor is on")


def on_device(device: Any) -> bool:
    """Whether what is given as a device is the pretended one; fails for others that are not there."""
    if device is None or isinstance(device, int):
        return device is not None
    device = torch.device(device)
    if device.type != "cuda":
        return False
    if device.index not in (None, 0):
        raise RuntimeError("CUDA error: invalid device ordinal")
    return True


@contextmanager
def pretend_gpu() -> Iterator[PretendGpu]:
    """One CUDA device, for the thread that is in here."""
    gpu = PretendGpu()
    with pytest.MonkeyPatch.context() as patch, _Placed(gpu), gpu:
        patch.setattr(torch, "Generator", _Generator)
        yield gpu

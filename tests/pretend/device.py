"""Tensors of another device whose numbers lie in the CPU's memory, without the hardware.

`install("cuda")` adds the device `pretend:0` to this process, for good: an operator that reads tensors of two devices
is an error as it is with a GPU's, `numpy()` and `is_cuda` are as there, and `varlen_attn`, which has no kernel on a
CPU, is computed one sequence after the other. `install("mps")` adds one without float64, as Apple's. It cannot show
the numbers of real kernels, operators that a real device lacks (but those of `_NOT_ON_MPS`), memory, or time.

PyTorch's way to write a backend in Python, see torch/utils/backend_registration.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._pytree import tree_leaves, tree_map

NAME = "pretend"
DEVICE = torch.device("privateuseone", 0)  # which is what `NAME` becomes another name of

_KINDS = ("cuda", "mps")
# What reads or writes tensors of two devices: copies, and indices, which may lie on the CPU.
_OF_TWO = ("aten::copy_", "aten::_to_copy", "aten::index", "aten::index_put", "aten::index_put_")
_FACTORIES = ("arange", "arange.start", "arange.start_step", "randperm", "randperm.generator", "eye", "linspace")
_NOT_ON_MPS = ("aten::take",)  # operators that CUDA has and MPS has not, as far as they have come up
# What autocast computes in half precision and in float32, as on CUDA.
_IN_HALF = ("linear", "matmul", "mm", "bmm", "addmm", "baddbmm", "scaled_dot_product_attention")
_IN_FLOAT32 = ("softmax.int", "log_softmax.int", "layer_norm", "nll_loss", "cross_entropy_loss", "logsumexp")
_library = torch.library.Library("aten", "IMPL")
_fallback = torch.library.Library("_", "IMPL")
_kind = ""


class _Backend(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


class OnDevice(torch.Tensor):
    """A tensor of the device. Attributes: inner: the same numbers on the CPU."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> OnDevice:
        if _kind == "mps" and inner.dtype == torch.float64:
            raise TypeError("Cannot convert a MPS Tensor to float64 dtype: the MPS framework has no float64")
        made: OnDevice = torch.Tensor._make_wrapper_subclass(
            cls,
            inner.shape,
            strides=inner.stride(),
            storage_offset=inner.storage_offset(),
            dtype=inner.dtype,
            device=DEVICE,
        )
        made.inner = inner
        return made

    @property
    def is_cuda(self) -> bool:
        return _kind == "cuda"

    def tolist(self) -> Any:
        return self.inner.tolist()

    def untyped_storage(self) -> Any:
        return self.inner.untyped_storage()

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def numpy(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("can't convert a tensor of a device to numpy. Use Tensor.cpu() to copy the tensor first")

    __array__ = numpy

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.inner.__reduce_ex__(protocol)

    def __repr__(self, **kwargs: Any) -> str:
        return f"OnDevice({self.inner!r})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _run(func, args, dict(kwargs or {}))


def _run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operator on tensors of the device, computed on the CPU."""
    name = func._schema.name
    stays = True  # on the device
    if kwargs.get("device") is not None:
        stays = torch.device(kwargs["device"]).type == DEVICE.type
        kwargs["device"] = torch.device("cpu")
    kwargs.pop("pin_memory", None)
    others = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor) and not isinstance(x, OnDevice)]
    if name not in _OF_TWO and any(x.dim() for x in others):  # numbers without a dimension may lie on the CPU
        shapes = ", ".join(str(tuple(x.shape)) for x in others)
        raise RuntimeError(f"Expected all tensors to be on the same device: {name} got {shapes} on the CPU as well")
    if _kind == "mps" and name in _NOT_ON_MPS:
        raise NotImplementedError(f"The operator '{name}' is not currently implemented for the MPS device")
    if name.startswith("torch_attn::"):
        attend = {"_varlen_attn": _varlen_attention, "_varlen_attn_backward": _varlen_gradients}[name.split("::")[1]]
        return tree_map(OnDevice, attend(*tree_map(_inner, args), **tree_map(_inner, kwargs)))
    if name == "aten::copy_":
        _inner(args[0]).copy_(_inner(args[1]))
        return args[0]
    out = func(*tree_map(_inner, args), **tree_map(_inner, kwargs))
    for about, given in zip(func._schema.arguments, args, strict=False):
        if about.alias_info is not None and about.alias_info.is_write and isinstance(given, Tensor):
            return given if func._schema.returns else None
    if "out" in kwargs:
        return kwargs["out"]
    return tree_map(lambda x: OnDevice(x) if isinstance(x, Tensor) else x, out) if stays else out


def _inner(value: Any) -> Any:
    return value.inner if isinstance(value, OnDevice) else value


def _varlen_attention(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, *rest: Any
) -> tuple[Tensor, Tensor, Tensor]:
    """The kernel behind `varlen_attn`, (T, H, E); the last two are for its gradient, which does not need them here."""
    found = query.new_zeros(query.shape)
    scale = rest[4] if len(rest) > 4 else None
    for begin, end in pairwise(bounds.tolist()):
        weights, (_, _, v), _ = _sequence(query, key, value, at=slice(begin, end), scale=scale)
        found[begin:end] = (weights @ v).transpose(0, 1)
    return found, query.new_zeros(()), query.new_zeros(())


def _varlen_gradients(
    gradient: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, lse: Tensor, bounds: Tensor, *rest: Any
) -> tuple[Tensor, ...]:
    found = [torch.zeros_like(x) for x in (query, key, value)]
    for begin, end in pairwise(bounds.tolist()):
        at = slice(begin, end)
        weights, (q, k, v), scale = _sequence(query, key, value, at=at, scale=rest[5] if len(rest) > 5 else None)
        given = gradient[at].transpose(0, 1).float()  # (H, n, E)
        of_weights = given @ v.mT
        of_logits = weights * (of_weights - (of_weights * weights).sum(-1, keepdim=True)) * scale
        for total, part in zip(found, (of_logits @ k, of_logits.mT @ q, weights.mT @ given), strict=True):
            total[at] = part.transpose(0, 1)
    return tuple(found)


def _sequence(
    query: Tensor, key: Tensor, value: Tensor, *, at: slice, scale: float | None
) -> tuple[Tensor, list[Tensor], float]:
    """Attention weights (H, n, n) within one sequence, its query, key and value (H, n, E) in float32, and the scale."""
    q, k, v = (x[at].transpose(0, 1).float() for x in (query, key, value))
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    return (q @ k.mT * factor).softmax(-1), [q, k, v], factor


def _factory(overload: Any) -> Callable[..., Tensor]:
    def made(*args: Any, dtype: Any = None, layout: Any = None, device: Any = None, pin_memory: Any = None) -> Tensor:
        return OnDevice(overload(*args, dtype=dtype))

    return made


def _cast(overload: Any, dtype: torch.dtype | None) -> Callable[..., Tensor]:
    """An operator whose inputs are cast first; None: to what autocast says."""

    def cast(value: Any) -> Any:
        if not isinstance(value, Tensor) or not value.is_floating_point() or value.dtype == torch.float64:
            return value
        return value.to(dtype or torch.get_autocast_dtype(NAME))

    def computed(*args: Any, **kwargs: Any) -> Tensor:
        with torch.autocast(NAME, enabled=False):
            return overload(*tree_map(cast, args), **tree_map(cast, kwargs))

    return computed


def _empty(size: Any, *, dtype: Any = None, memory_format: Any = None, **options: Any) -> Tensor:
    return OnDevice(torch.empty(size, dtype=dtype))


def _empty_strided(size: Any, stride: Any, *, dtype: Any = None, **options: Any) -> Tensor:
    return OnDevice(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    _inner(target).copy_(_inner(source))
    return target


def install(kind: str) -> None:
    """Add the device to this process; `kind`: "cuda" or "mps". It cannot be taken away again."""
    global _kind
    if kind not in _KINDS or _kind:
        raise ValueError(f"{kind}: not one of {_KINDS}, or a device is there")
    _kind = kind
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
    for name in _FACTORIES:
        packet, _, overload = name.partition(".")
        _library.impl(name, _factory(getattr(getattr(torch.ops.aten, packet), overload or "default")), "PrivateUse1")
    for name, function in (("empty.memory_format", _empty), ("empty_strided", _empty_strided)):
        _library.impl(name, function, "PrivateUse1")
    _library.impl("_copy_from", _copy_from, "PrivateUse1")
    _fallback.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for names, dtype in ((_IN_HALF, None), (_IN_FLOAT32, torch.float32)):
        for name in names:
            packet, _, overload = name.partition(".")
            operator = getattr(getattr(torch.ops.aten, packet), overload or "default")
            _library.impl(name, _cast(operator, dtype), "AutocastPrivateUse1")
    torch.Tensor.pin_memory = lambda self, *args: self
    torch.inference_mode = _without_gradients
    torch.cuda.get_device_capability = lambda device=None: (9, 0)
    torch.accelerator.empty_cache = lambda: None  # it has no allocator, which accelerate 1.16 and later would ask


@contextmanager
def _without_gradients(mode: bool = True) -> Iterator[None]:
    """In place of inference_mode, which tensors made in Python do not have."""
    with torch.set_grad_enabled(not mode):
        yield

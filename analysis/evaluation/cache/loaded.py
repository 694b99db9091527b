"""What runs of a module: the code and the plain values that are loaded, whatever its file has become since.

A module that is edited and not loaded again, or of which a function was imported by name before it was, computes what
the old text says.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import torch
from torch import Tensor

_PLAIN = (bool, int, float, complex, str, bytes, type(None))


def loaded_module(name: str) -> str:
    """The functions, the methods of classes, and the plain values of a module; empty for one that is not loaded.

    Values of other kinds are left out, since their text may differ between two runs. So an edit of nothing but those,
    in a module that is not loaded again, goes unseen.
    """
    module = sys.modules.get(name)
    rows = [] if module is None else _rows(vars(module), name)
    return "\n".join(sorted(rows))


def loaded_function(function: FunctionType) -> str:
    """A function's code and the plain values of its defaults, without its docstring, file and lines."""
    defaults = [function.__defaults__, function.__kwdefaults__]
    return f"{_code(function.__code__, function.__doc__)} {[text_of(one) for one in defaults]}"


def _rows(namespace: Mapping[str, Any], module: str, prefix: str = "") -> Iterator[str]:
    for name, value in namespace.items():
        for part in (value.fget, value.fset) if isinstance(value, property) else (value,):
            one = getattr(part, "__func__", part)  # of a static or class method
            one = inspect.unwrap(one) if callable(one) else one
            if isinstance(one, FunctionType) and one.__module__ == module:
                yield f"{prefix}{name} {loaded_function(one)}"
            elif isinstance(one, type) and one.__module__ == module and not prefix:
                yield from _rows(vars(one), module, f"{name}.")
            elif not name.startswith("__") and (text := text_of(one)) is not None:  # __file__, __doc__, line numbers
                yield f"{prefix}{name} {text}"


def text_of(value: Any) -> str | None:
    """The text of a plain value, an array or a collection of them; None for anything else."""
    if isinstance(value, _PLAIN):
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, Tensor) and value.layout == torch.strided and value.device.type != "meta":
        plain = value.detach().cpu().resolve_conj().resolve_neg()
        raw = plain.reshape(-1).contiguous().view(torch.uint8).numpy()
        return f"tensor {value.dtype} {tuple(value.shape)} {text_of(raw)}"
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        return f"array {value.dtype} {value.shape} {hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    if isinstance(value, dict):
        parts = [text_of(list(one)) for one in value.items()]
    elif isinstance(value, list | tuple | set | frozenset):
        parts = [text_of(one) for one in value]
    else:
        return None
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        return None
    return f"{type(value).__name__} {sorted(known) if isinstance(value, set | frozenset) else known}"


def _code(code: CodeType, docstring: str | None = None) -> list[Any]:
    constants = [
        _code(one) if isinstance(one, CodeType) else "" if docstring is not None and one == docstring else text_of(one)
        for one in code.co_consts
    ]
    return [code.co_code.hex(), code.co_names, code.co_varnames, constants]

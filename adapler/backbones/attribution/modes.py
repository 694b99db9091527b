"""Evaluation mode for as long as something is computed, of models that threads may share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn

# Of each module that is inside `evaluating`: how many times, and whether it was in training mode before the first.
_INSIDE: WeakKeyDictionary[nn.Module, tuple[int, bool]] = WeakKeyDictionary()
_LOCK = Lock()


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Within it a model is in evaluation mode; afterwards each of its modules is in the mode that it was in before.

    `model.train()` would not do: it takes the parts along that a training keeps in evaluation mode. Threads may be
    inside at one time, with a model or with parts of it: the last one to leave sets the mode back. What is no module is
    left alone.
    """
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    with _LOCK:
        for module in modules:
            times, training = _INSIDE.get(module, (0, module.training))
            _INSIDE[module] = (times + 1, training)
            module.training = False
    try:
        yield
    finally:
        with _LOCK:
            for module in modules:
                times, training = _INSIDE.pop(module)
                if times > 1:
                    _INSIDE[module] = (times - 1, training)
                else:
                    module.training = training

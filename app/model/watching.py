"""How far a scoring method is, by the passes that go through the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from adapler.backbones import view


@contextmanager
def counted(model: Any, tell: Callable[[int], None]) -> Iterator[None]:
    """Call `tell` with the number of texts that have gone into the first layer, before each that goes.

    model: AdapLeRForSequenceClassification; left as found. What `tell` raises ends the method.
    """
    done = 0

    def hook(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        nonlocal done
        tell(done)
        given = (*args, *kwargs.values())
        states = next((one for one in given if isinstance(one, torch.Tensor) and one.dim() == 3), None)
        done += 1 if states is None else len(states)

    handle = view(model.backbone).layers[0].register_forward_pre_hook(hook, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()

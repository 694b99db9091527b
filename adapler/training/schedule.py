"""How steep soft removal is in each epoch."""

from __future__ import annotations

from adapler.errors import ArgumentError


def slope_at(epoch: int, epochs: int) -> float:
    """Soft removal's lambda in an epoch (0-based): 50*50^e for 3 epochs, 10*10^e for 5, 10*3^e for 10.

    Other counts go geometrically from 10 to 1e5 (our choice; the paper names three counts only).

    Raises:
        ArgumentError: epoch is outside [0, epochs).
    """
    if not 0 <= epoch < epochs:
        raise ArgumentError(f"epoch: {epoch} is not in [0, {epochs})")
    published = {3: (50.0, 50.0), 5: (10.0, 10.0), 10: (10.0, 3.0)}
    if epochs in published:
        first, ratio = published[epochs]
    elif epochs == 1:
        first, ratio = 1e5, 1.0  # one epoch only: at once close to hard removal, which is what will be used
    else:
        first, ratio = 10.0, 1e4 ** (1 / (epochs - 1))
    return first * ratio**epoch

"""The slope of soft removal by epoch."""

from __future__ import annotations

import pytest

from adapler.errors import ArgumentError
from adapler.training.schedule import slope_at


@pytest.mark.parametrize(
    ("epochs", "slopes"),
    [
        (3, [50, 2500, 125000]),  # 50 * 50^e
        (5, [10, 100, 1e3, 1e4, 1e5]),  # 10 * 10^e
        (10, [10, 30, 90, 270, 810, 2430, 7290, 21870, 65610, 196830]),  # 10 * 3^e
        (2, [10, 1e5]),
        (9, [10 * 10 ** (e / 2) for e in range(9)]),  # geometric from 10 to 1e5 in 8 steps
        (1, [1e5]),
    ],
)
def test_slopes(epochs: int, slopes: list[float]) -> None:
    assert [slope_at(e, epochs) for e in range(epochs)] == pytest.approx(slopes)


@pytest.mark.parametrize(("epoch", "epochs"), [(3, 3), (-1, 3), (0, 0)])
def test_slope_outside_the_run(epoch: int, epochs: int) -> None:
    with pytest.raises(ArgumentError, match=rf"^epoch: {epoch} is not in \[0, {epochs}\)$"):
        slope_at(epoch, epochs)

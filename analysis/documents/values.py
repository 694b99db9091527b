"""Values as a person hands them over: a pandas Series, one name instead of several."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from adapler.errors import AdapLeRError, ArgumentError

__all__ = ["by_index", "listed"]


def by_index(values: Any, where: str, *, error: type[AdapLeRError] = ArgumentError) -> Any:
    """A pandas Series in the order of its index, which must be 0 to n - 1; anything else as it is.

    A Series that was sorted by its values, or filtered, keeps its index: read by position, its numbers would be those
    of other words.

    Raises:
        error: for another index, or one that names a number twice; `where` says whose.
    """
    if not isinstance(values, pd.Series) or values.empty:
        return values
    ordered = values.sort_index() if values.index.is_unique and pd.api.types.is_integer_dtype(values.index) else None
    if ordered is None or not np.array_equal(ordered.index, np.arange(len(values))):
        raise error(
            f"{where}: a Series goes by its index, which must be 0 to {len(values) - 1}, and this one's is not; "
            ".tolist() gives its values in their order"
        )
    return ordered.to_numpy()


def listed(name: str, values: Any) -> list[Any]:
    """One name, or several of them, as a list.

    Raises:
        ArgumentError: neither a text nor a list; `name` is the argument's.
    """
    if isinstance(values, str):
        return [values]
    if not isinstance(values, Iterable):
        raise ArgumentError(f"{name}: got {values!r}, must be a name or a list of names")
    return list(values)

"""What a figure shows, and a small trade-off table to draw."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes

TRADEOFF = """mode,phi,epoch,scale,accuracy,speedup,reference
post-hoc,1e-3,1,1,.86,2,.88
full,1e-3,1,1,.87,3,.88
full,1e-3,2,1,.88,1.5,.88
full,1e-3,3,1,.80,2,.88
$f_2$,1e-3,3,1,.85,5,.88
"""


def lines(ax: Axes) -> dict[str, Any]:
    """The lines of a panel by the name that they have in the legend."""
    return {str(line.get_label()): line for line in ax.get_lines()}

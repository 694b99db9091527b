"""The charts of Trust. Each takes the table of `tradeoff.curve` and the frame of a calibration."""

from __future__ import annotations

from html import escape
from typing import Any

import altair as alt
import pandas as pd

from app.markup import colors
from app.server import state
from app.work.calibrated import SAME

HEIGHT = 260
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
SIGNS = "\u25cf\u25a0\u25b2\u25c6\u271a\u25bc"  # the same as characters


def key(table: pd.DataFrame, calibration: pd.DataFrame) -> str:
    """What the colours and shapes of all four charts mean, as HTML; inside a chart it would take the plot's room."""
    names = _names(_both(table, calibration))
    looks = ((colors.LINES[number % len(colors.LINES)], SIGNS[number % len(SIGNS)]) for number in range(len(names)))
    parts = (
        f'<span><span style="color:{color}" aria-hidden="true">{sign}</span> {escape(name)}</span>'
        for name, (color, sign) in zip(names, looks, strict=True)
    )
    return f'<div class="al-key">{"".join(parts)}</div>'


def score(table: pd.DataFrame, calibration: pd.DataFrame, scale: float, *, metric: str) -> Any:
    """Score with removal over the scale."""
    return _over_scale(table, calibration, scale, fields=("score", "low", "high"), title=metric, percent=True)


def agreement(table: pd.DataFrame, calibration: pd.DataFrame, scale: float) -> Any:
    """Share of documents with the same verdict with and without removal, over the scale."""
    fields = ("agreement", "agreement_low", "agreement_high")
    return _over_scale(table, calibration, scale, fields=fields, title="same verdict", percent=True)


def speed(table: pd.DataFrame, calibration: pd.DataFrame, scale: float) -> Any:
    """FLOPs speedup over the scale; an interval has the calibration alone."""
    fields = ("speedup", "speedup_low", "speedup_high")
    return _over_scale(table, calibration, scale, fields=fields, title="FLOPs speedup", percent=False)


def against_speedup(table: pd.DataFrame, calibration: pd.DataFrame, scale: float, *, metric: str) -> Any:
    """Score over speedup, a line for each split; the slider's scale is a ring where it was measured."""
    both = _both(table, calibration)
    both["now"] = (both["scale"] - scale).abs() < SAME
    base = alt.Chart(both).encode(
        x=alt.X("speedup:Q", title="FLOPs speedup", scale=_fits(both, ("speedup",))),
        y=alt.Y(
            "score:Q",
            title=f"{metric}, with removal",
            scale=_fits(both, ("score", "reference")),
            axis=alt.Axis(format="%"),
        ),
        color=_color(both),
    )
    points = base.mark_point(size=40, opacity=1, filled=True).encode(shape=_shape(both), tooltip=_told(both))
    ring = base.transform_filter("datum.now").mark_point(size=220, strokeWidth=2, shape="circle")
    layers = [base.mark_line().encode(order="scale:Q"), points, ring]
    plain = both.dropna(subset=["reference"]).drop_duplicates(["measured", "reference"])
    if not plain.empty:
        y = alt.Y("reference:Q", scale=_fits(both, ("score", "reference")))
        layers.insert(0, alt.Chart(plain).mark_rule(strokeDash=[2, 3], aria=False).encode(y=y, color=_color(both)))
    return alt.layer(*layers).properties(height=HEIGHT, description=f"Lines: {metric} with removal over FLOPs speedup")


def _over_scale(
    table: pd.DataFrame,
    calibration: pd.DataFrame,
    scale: float,
    *,
    fields: tuple[str, str, str],
    title: str,
    percent: bool,
) -> Any:
    """fields: of the value and its interval, which a table may not have."""
    both = _both(table, calibration)
    value, low, high = fields
    if value == "agreement":
        both["banded"] = False
    for name in fields:
        if name not in both:
            both[name] = float("nan")
    end = max(state.MAX_SCALE, float(both["scale"].max()))
    axis = alt.Axis(format="%") if percent else alt.Axis(values=[1, 2, 3, 4, 6, 8, 12, 16, 24, 32])
    base = alt.Chart(both).encode(
        x=alt.X("scale:Q", title="threshold scale", scale=alt.Scale(domain=[0, end], nice=False)), color=_color(both)
    )
    y = alt.Y(f"{value}:Q", title=title, axis=axis, scale=_fits(both, fields))
    ends = {"y": alt.Y(f"{low}:Q", title=title, axis=axis, scale=_fits(both, fields)), "y2": f"{high}:Q"}
    band = base.transform_filter("datum.banded").mark_area(opacity=0.15, line=False, aria=False).encode(**ends)
    bars = base.transform_filter("!datum.banded").mark_rule(strokeWidth=1.5, aria=False).encode(**ends)
    shown = base.transform_filter(f"isValid(datum['{value}'])")
    lines = shown.mark_line().encode(y=y, order="scale:Q")
    points = shown.mark_point(filled=True, size=45, opacity=1).encode(y=y, shape=_shape(both), tooltip=_told(both))
    now = (
        alt.Chart(pd.DataFrame({"scale": [scale]}))
        .mark_rule(color="gray", strokeDash=[4, 3], aria=False)
        .encode(x="scale:Q")
    )
    said = f"Lines: {title} over the threshold scale"
    return alt.layer(band, bars, now, lines, points).properties(height=HEIGHT, description=said)


def _both(table: pd.DataFrame, calibration: pd.DataFrame) -> pd.DataFrame:
    parts = [calibration.assign(banded=True), table.assign(banded=False)]
    return pd.concat([part for part in parts if not part.empty], ignore_index=True)


def _fits(both: pd.DataFrame, fields: tuple[str, ...]) -> alt.Scale:
    """A domain around all values; shares stay within 0 and 1, speedups, which grow by factors, are logarithmic."""
    values = both[[name for name in fields if name in both]].astype(float)
    low, high = float(values.min().min()), float(values.max().max())
    if "speedup" in fields:
        return alt.Scale(type="log", domain=[low / 1.05, high * 1.05], nice=False)
    room = 0.05 * (high - low) + 0.01
    return alt.Scale(domain=[max(0.0, low - room), min(1.0, high + room)], nice=False)


def _names(both: pd.DataFrame) -> list[str]:
    return list(dict.fromkeys(both["measured"]))


def _color(both: pd.DataFrame) -> alt.Color:
    names = _names(both)
    palette = [colors.LINES[number % len(colors.LINES)] for number in range(len(names))]
    return alt.Color("measured:N", title=None, scale=alt.Scale(domain=names, range=palette), legend=None)


def _shape(both: pd.DataFrame) -> alt.Shape:
    names = _names(both)
    shapes = [SHAPES[number % len(SHAPES)] for number in range(len(names))]
    return alt.Shape("measured:N", title=None, scale=alt.Scale(domain=names, range=shapes), legend=None)


def _told(both: pd.DataFrame) -> list[Any]:
    formats = {"scale": ".3g", "score": ".3f", "low": ".3f", "high": ".3f", "agreement": ".3f", "speedup": ".2f"}
    numbers = [alt.Tooltip(f"{name}:Q", format=form) for name, form in formats.items() if name in both]
    return [alt.Tooltip("measured:N"), *numbers]

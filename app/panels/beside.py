"""This checkpoint's measured curve beside those of other systems: score against FLOPs speedup on whole splits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from app.markup import colors, export
from app.panels import common
from app.sources import loading
from app.sources.loading import Checkpoint
from app.work import calibrated, systems, tradeoff
from app.work.calibrated import SAME
from app.work.origin import read_training
from app.work.systems import FINETUNED, SPLITS, Systems

OWN = "this checkpoint"
SIGNS = {
    "circle": "\u25cf",
    "square": "\u25a0",
    "triangle-up": "\u25b2",
    "diamond": "\u25c6",
    "cross": "\u271a",
    "triangle-down": "\u25bc",
    "triangle-right": "\u25b6",
    "triangle-left": "\u25c0",
    "stroke": "\u254c",  # a dashed line
}
# A system looks the same on every task. A dozen colours do not stay apart in every colour blindness: shapes do.
LOOKS = {
    OWN: (colors.LINES[0], "circle"),
    FINETUNED: (colors.LINES[5], "stroke"),
    "power": (colors.LINES[1], "square"),
    "ltp": (colors.LINES[2], "diamond"),
    "transkimmer": (colors.LINES[3], "triangle-down"),
    "trbert": (colors.LINES[4], "triangle-up"),
    "distilbert": ("#8a7a2f", "cross"),
    "cls_topk": ("#6f8796", "triangle-right"),
    "random_topk": ("#8f7f87", "triangle-left"),
    "adapler": ("#b5533c", "square"),
    "adapler-post-hoc": ("#a3762c", "diamond"),
}
SPARE = (("#5f79c9", "triangle-up"), ("#d0568f", "triangle-right"), ("#3f8f8f", "cross"), ("#9467bd", "square"))
TICKS = [1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]
COLUMNS = ("system", "budget", "threshold scale", "score", "lowest seed", "highest seed", "speedup", "seeds", "drawn")


def show(
    checkpoint: Checkpoint, *, name: str, scale: float, checkpoints: Mapping[str, Path], tradeoffs: Sequence[Path]
) -> None:
    """name: of the checkpoint in the menu `checkpoints`; tradeoffs: results folders with other systems' curves."""
    training = read_training(checkpoints[name])
    measured, unread = tradeoff.curve(name, checkpoints=checkpoints, results=loading.REPORTS, found={})
    curve = calibrated.curve(checkpoint)
    named = [*([curve.calibration.task] if curve.calibration else []), *measured["task"]]
    task = training.task or next(iter(named), None)
    own = {} if task is None else tradeoff.by_split(measured, curve, task=task)
    own = {split: own[split] for split in SPLITS if split in own}
    metric = next((str(one["metric"].iloc[0]) for one in own.values()), None)
    found, said = systems.find(
        tradeoffs, training=training, task=task, metric=metric, layers=int(checkpoint.model.num_layers)
    )
    st.header(f"On whole splits{', beside other systems' if found else ''}")
    if unread:
        said.insert(0, f"Not read, as they are damaged or of another version: {', '.join(unread)}.")
    if own or found is not None:
        _charted(checkpoint, own, found, name=name, scale=scale, metric=metric or (found.metric if found else "score"))
    what = [*([curve.measured()] if curve.calibration else []), *measured["measured"].unique()]
    if not own and what:
        said.insert(0, f"Measured of this checkpoint: {'; '.join(what)}. Drawn is test or validation of {task} only.")
    elif not own:
        st.caption(
            "Nothing is measured of this checkpoint on whole splits: `adapler calibrate --model FOLDER --task TASK` "
            "or `adapler evaluate` does so."
        )
    for sentence in said:
        st.caption(common.literal(sentence))
    if found is None and not tradeoffs:
        st.caption("No other systems: `python -m benchmarks.tradeoff` measures them, `--tradeoff DIR` shows them.")


def _charted(
    checkpoint: Checkpoint,
    own: Mapping[str, pd.DataFrame],
    found: Systems | None,
    *,
    name: str,
    scale: float,
    metric: str,
) -> None:
    split = _split([*own] or list(SPLITS))
    mine = own.get(split)
    table = _table(mine, found, split=split, name=name)
    drawn = table[table["drawn"]]
    st.html(_key(drawn))
    st.altair_chart(chart(drawn, scale, metric=metric))
    st.caption(
        common.literal(_said(mine, found, split=split, metric=metric, scale=scale, left_out=len(table) - len(drawn)))
    )
    with st.expander("The numbers", key="curves-open"):
        listed = table.rename(
            columns={"title": "system", "system": "key", "scale": "threshold scale", "low": "lowest seed"}
        ).rename(columns={"high": "highest seed"})[list(COLUMNS)]
        number = st.column_config.NumberColumn
        columns = {one: number(format="%.3f") for one in ("score", "lowest seed", "highest seed")}
        st.dataframe(listed, hide_index=True, column_config=columns | {"speedup": number(format="%.2fx")})
        st.download_button(
            "Curves as CSV",
            partial(
                export.rows_csv,
                listed.assign(split=split, metric=metric, file=_files(mine, found, table)),
                origin=common.origin(None, checkpoint, name=name, scale=scale),
            ),
            file_name="curves.csv",
            mime="text/csv",
            key="save-curves",
            on_click="ignore",
        )


def _split(options: Sequence[str]) -> str:
    """What is looked at: curves of two splits do not go into one chart."""
    if len(options) == 1:
        return options[0]
    chosen = st.segmented_control(
        "Measured on", options, default=options[0], key="of-split", required=True, persist_state="session"
    )
    return str(chosen or options[0])


def _table(mine: pd.DataFrame | None, found: Systems | None, *, split: str, name: str) -> pd.DataFrame:
    """The columns of `Systems.points`, this checkpoint's first, then the classifier and the systems in their order."""
    parts = []
    if mine is not None:
        whose: dict[str, Any] = {
            "system": OWN,
            "title": f"{OWN}, {name}",
            "budget": float("nan"),
            "seeds": 1,
            "drawn": True,
        }
        # its intervals are over documents, and these columns are over seeds
        parts.append(mine[["scale", "score", "speedup"]].assign(low=mine["score"], high=mine["score"], **whose))
    if found is not None:
        points = found.points(split)
        order = {system: place for place, system in enumerate(LOOKS)}
        places = [order.get(system, len(order)) for system in points["system"]]
        parts.append(points.assign(place=places).sort_values("place", kind="stable").drop(columns="place"))
    return pd.concat(parts, ignore_index=True)


def looks(shown: Sequence[str]) -> dict[str, tuple[str, str]]:
    """system -> colour and shape; a variant that has none of its own gets a spare one."""
    others = sorted(set(shown) - set(LOOKS))
    spare = {system: SPARE[place % len(SPARE)] for place, system in enumerate(others)}
    return {system: LOOKS.get(system) or spare[system] for system in dict.fromkeys(shown)}


def _key(drawn: pd.DataFrame) -> str:
    """What colours and shapes mean; inside the chart it would take the plot's room."""
    names = drawn.drop_duplicates("system").set_index("system")["title"]
    parts = []
    for system, (color, shape) in looks(list(names.index)).items():
        name = f"<b>{escape(names[system])}</b>" if system == OWN else escape(names[system])
        parts.append(f'<span><span style="color:{color}" aria-hidden="true">{SIGNS[shape]}</span> {name}</span>')
    return f'<div class="al-key">{"".join(parts)}</div>'


def chart(drawn: pd.DataFrame, scale: float, *, metric: str) -> Any:
    """Score over speedup, a line a system; this checkpoint's is the thick one, a ring on it the slider's scale where it
    was measured."""
    texts = {one: [("-" if pd.isna(value) else f"{value:g}") for value in drawn[one]] for one in ("budget", "scale")}
    own, plain = drawn["system"] == OWN, drawn["system"] == FINETUNED
    table = drawn.assign(**texts, now=own & ((drawn["scale"] - scale).abs() < SAME))
    names = table.drop_duplicates("system").set_index("system")["title"]
    found = looks(list(names.index))
    domain = [names[system] for system in found]
    color = alt.Color("title:N", legend=None, scale=alt.Scale(domain=domain, range=[one[0] for one in found.values()]))
    shape = alt.Shape("title:N", legend=None, scale=alt.Scale(domain=domain, range=[one[1] for one in found.values()]))
    x = alt.X("speedup:Q", title="FLOPs speedup", axis=alt.Axis(values=TICKS), scale=_speedups(table["speedup"]))
    told = [
        alt.Tooltip("title:N", title="system"),
        alt.Tooltip("score:Q", format=".3f"),
        alt.Tooltip("speedup:Q", format=".2f", title="FLOPs speedup"),
        alt.Tooltip("scale:N", title="threshold scale"),
        alt.Tooltip("budget:N"),
        alt.Tooltip("seeds:Q"),
    ]
    y = alt.Y("score:Q", title=metric, axis=alt.Axis(format="%"), scale=_scores(table))
    layers = []
    if plain.any():
        rule = alt.Chart(table[plain]).mark_rule(strokeDash=[4, 3], strokeWidth=1.5)
        layers.append(rule.encode(y=y, color=color, tooltip=told))
    for rows, width, size in ((table[~own & ~plain], 1.5, 45), (table[own], 3.5, 90)):
        if rows.empty:
            continue
        base = alt.Chart(rows).encode(x=x, color=color)
        if (rows["seeds"] > 1).any():
            ends = {"y": alt.Y("low:Q", scale=_scores(table)), "y2": "high:Q"}
            layers.append(base.mark_rule(aria=False).encode(**ends))
        layers.append(base.mark_line(strokeWidth=width).encode(y=y, order=_order(rows)))
        layers.append(base.mark_point(filled=True, size=size, opacity=1).encode(y=y, shape=shape, tooltip=told))
    if table["now"].any():
        ring = alt.Chart(table[table["now"]]).mark_point(size=320, strokeWidth=2, shape="circle", aria=False)
        layers.append(ring.encode(x=x, y=y, color=color))
    said = f"Lines: {metric} over FLOPs speedup, of {', '.join(dict.fromkeys(table['title']))}"
    return alt.layer(*layers).properties(height=340, description=said)


def _order(rows: pd.DataFrame) -> str:
    """A checkpoint's line goes by scale, as it was measured; a system's mixes budgets, and goes by speedup."""
    return "scale:Q" if (rows["system"] == OWN).all() else "speedup:Q"


def _speedups(values: pd.Series[float]) -> alt.Scale:
    low, high = min(1.0, float(values.min())), max(1.5, float(values.max()))
    return alt.Scale(type="log", domain=[low / 1.03, high * 1.06], nice=False)


def _scores(table: pd.DataFrame) -> alt.Scale:
    low, high = float(table["low"].min()), float(table["high"].max())
    room = 0.05 * (high - low) + 0.01
    return alt.Scale(domain=[max(0.0, low - room), min(1.0, high + room)], nice=False)


def _files(mine: pd.DataFrame | None, found: Systems | None, table: pd.DataFrame) -> list[str]:
    own = {} if mine is None else dict(zip(mine["scale"], mine["file"], strict=True))
    rows = zip(table["system"], table["scale"], strict=True)
    return [str(own[scale]) if system == OWN else found.file if found else "" for system, scale in rows]


def _said(
    mine: pd.DataFrame | None, found: Systems | None, *, split: str, metric: str, scale: float, left_out: int
) -> str:
    """What stands in the chart: of what it is, and from which files."""
    said = []
    if mine is not None:
        said.append(
            f"This checkpoint: {metric}, {mine['measured'].iloc[0]}, from {', '.join(dict.fromkeys(mine['file']))}."
        )
        said.append(f"Without removal it has {100 * mine['reference'].iloc[0]:.1f} %.")
        if ((mine["scale"] - scale).abs() < SAME).any():
            said.append("The ring is the slider's scale.")
    if found is None:
        return " ".join(said)
    low, high = found.seeds()
    seeds = f"{high} seed{'s' * (high > 1)}" if low == high else f"{low} to {high} seeds, their mean"
    called = f" (the checkpoint's: {found.called})" if found.called not in ("", found.backbone) else ""
    coverage = found.coverage or "whether these are all published rows is not known"
    said.append(
        f"Other systems: {found.metric} on {split} of {found.task}, {coverage}, encoder {found.backbone}{called}, "
        f"{seeds}, from {found.file}."
    )
    if FINETUNED in set(found.rows["system"]):
        said.append("The dashed line is their fine-tuned classifier.")
    if found.same_rows is False:
        said.append("The checkpoint was trained on other rows of this task, so small differences say nothing.")
    if left_out:
        said.append(
            f"Left out: {left_out} of their points, which validation would never choose, as they are slower and worse "
            "than another of their system, or more than 15 percentage points below their classifier"
            f"{'' if found.seeds() == (1, 1) else ', or which not all seeds of their system have'}."
        )
    return " ".join(said)

"""Who finds what people marked? The human rationale, and the scores of each method aligned with it token by token."""

from __future__ import annotations

import altair as alt
import pandas as pd
import streamlit as st

from adapler.errors import AdapLeRError
from app import context as shared
from app import joining, loading, markup, methods, player
from app.context import Context
from app.methods import Scored

DEFAULT = list(methods.FIRST[:5])
MOST = 8


def render(context: Context) -> None:
    context.head.html(
        markup.title(
            "Who finds what people marked?",
            "Each bar is a method's average precision at this layer: 1 if the marked words have the highest scores; "
            "the tick is chance, the dot the mean over a corpus. The order changes from text to text.",
        )
    )
    document, trace = context.read()
    with st.container():
        if not trace.gold.any():
            st.info("Nobody has marked this text.")
            marked = next((name for name, one in (context.texts or {}).items() if one.spans), None)
            if marked is not None:
                st.button("Show a review that people marked", key="marked", on_click=_choose, args=[marked])
    place = st.container()
    titles = methods.titles()
    st.multiselect(
        "Methods",
        list(titles),
        default=DEFAULT,
        format_func=titles.__getitem__,
        key="methods",
        max_selections=MOST,
        bind="query-params",
        persist_state="session",
        help="Those of a few passes. `analysis.explain` has all, and the metrics of faithfulness.",
    )
    st.html(markup.legend(context.in_units(), "framed: at least 1/n", "violet: speaks against the prediction"))
    st.caption(markup.literal(context.subject()))
    with place:
        st.fragment(_story)(context)


def _choose(text: str) -> None:
    st.session_state.document = text


def _story(context: Context) -> None:
    """Draws what is scored and scores the next method: the first is there at once, the others as they come."""
    checkpoint, (document, trace) = context.model, context.read()
    chosen = methods.distinct(checkpoint.exact, st.session_state.get("methods") or DEFAULT)
    done: set[object] = st.session_state.setdefault("scored", set())
    found: dict[str, Scored] = {}
    waiting = False
    for name in chosen:
        key = (checkpoint.key, document, context.scale, name)
        if waiting := key not in done and bool(found):
            break
        done.add(key)
        scale = context.scale if name in ("cp", "cp_carried", "policy") else 1.0  # the others see no removal
        try:
            found[name] = loading.load_scores(checkpoint, document, name, threshold_scale=scale)
        except AdapLeRError as error:
            shared.problem(error)
    drawn = context.in_units(most=joining.WORDS)
    means, of = loading.usual_precision(context.name, context.reports)
    panels = [player.story_panel(drawn, one, means=means.get(name, ()), of=of) for name, one in found.items()]
    if panels:
        player.show(player.drawn(drawn, panels, mode=player.STORY, plays=True), key="player-story")
    if waiting:
        name = next(name for name in chosen if name not in found)
        st.caption(f"Scoring with {methods.titles()[name]} ...")
        done.add((checkpoint.key, document, context.scale, name))
        st.rerun()
    if of and trace.gold.any():
        st.caption(markup.literal(f"Dots: mean over {of}."))
    if trace.gold.any():
        _curves(found, trace.layers)


def _curves(found: dict[str, Scored], layers: int) -> None:
    rows = [
        {"method": one.title, "layer": layer, "AP": float(one.metrics[layer if len(one.metrics) > 1 else 0, 0])}
        for one in found.values()
        for layer in range(layers)
    ]
    chance = next(iter(found.values())).chance
    base = alt.Chart(pd.DataFrame(rows)).encode(
        x=alt.X("layer:O", axis=alt.Axis(labelAngle=0)),
        y=alt.Y("AP:Q", title="average precision", scale=alt.Scale(domain=[0, 1])),
        color=alt.Color(
            "method:N",
            legend=alt.Legend(orient="top", title=None, columns=3, labelLimit=200),
            scale=alt.Scale(scheme="tableau10"),
        ),
        shape="method:N",
        tooltip=["method", "layer", alt.Tooltip("AP:Q", format=".3f")],
    )
    rule = alt.Chart(pd.DataFrame([{"chance": chance}])).mark_rule(strokeDash=[4, 3]).encode(y="chance:Q")
    with st.expander("By layer"):
        st.altair_chart(base.mark_line() + base.mark_point(filled=True, size=50) + rule)
        st.caption(f"This text. The dashed line is chance, {chance:.2f}.")

"""Budget: what other threshold scales make of this text, and how long a pass takes."""

from __future__ import annotations

import time
from statistics import median

import altair as alt
import streamlit as st

from app import loading, markup, tracing
from app.context import Context

REPEATS = 5
AMBER, OTHER = "#c96f00", "#8466c4"  # the verdict with all tokens, another one


def render(context: Context) -> None:
    context.head.html(
        markup.title(
            "How much faster?",
            "The threshold scale trades tokens for speed. Each point is this text at another scale.",
        )
    )
    document, trace = context.read()
    checkpoint = context.model
    table = loading.load_sweep(checkpoint, document)
    without = trace.full_label
    rows = (
        (
            "Compute",
            f"{trace.speedup:.2f}x less",
            f"{markup.flops(trace.flops)} instead of {markup.flops(trace.plain_flops)}",
        ),
        ("Tokens to the end", f"{trace.lengths[-1]} of {len(trace)}", f"at scale {context.scale:g}"),
        ("Verdict", markup.visible(trace.label), f"{markup.visible(without)} with all tokens"),
    )
    st.html(markup.cards(rows))
    base = alt.Chart(table).encode(x=alt.X("scale:Q", title="threshold scale"))
    now = alt.Chart({"values": [{"scale": context.scale}]}).mark_rule(strokeDash=[4, 3]).encode(x="scale:Q")
    left, right = st.columns(2)
    for place, field, title in (
        (left, "speedup", "FLOPs speedup"),
        (right, "probability", f"probability of {without}"),
    ):
        told = ["scale", "speedup", "tokens", "label", alt.Tooltip("probability:Q", format=".3f")]
        y = alt.Y(
            f"{field}:Q", title=title, scale=alt.Scale(domain=[0, 1]) if field == "probability" else alt.Undefined
        )
        line = base.mark_line(color=AMBER).encode(y=y)
        points = base.mark_point(filled=True, size=60).encode(
            y=y,
            color=alt.when(alt.datum.label == without).then(alt.value(AMBER)).otherwise(alt.value(OTHER)),
            tooltip=told,
        )
        place.altair_chart((line + points + now).properties(height=240))
    changed = [f"{scale:g}" for scale in table.loc[table["label"] != without, "scale"]]
    st.markdown(
        markup.literal(f"Violet: another verdict than with all tokens, at scale {', '.join(changed)}.")
        if changed
        else "The verdict is the same at every scale."
    )
    if st.button("Measure milliseconds on this server", key="measure"):
        st.html(_timing(context))
    st.caption(markup.literal(context.subject()))


def _timing(context: Context) -> str:
    """Passes with removal and without in turn, so that whatever else the machine does hits both alike."""
    checkpoint, (document, _) = context.model, context.read()
    taken: dict[str, list[float]] = {"hard": [], "none": []}
    with checkpoint.lock:
        batch, _ = tracing.encode(checkpoint.model, checkpoint.tokenizer, document.words, document.query_words)
        for repeat in range(1 + REPEATS):  # the first pair sets up memory and kernels
            for removal, milliseconds in taken.items():
                started = time.perf_counter()
                checkpoint.model(**batch, removal=removal, threshold_scale=context.scale).logits.cpu()
                if repeat:
                    milliseconds.append(1000 * (time.perf_counter() - started))
    ratios = [plain / hard for hard, plain in zip(taken["hard"], taken["none"], strict=True)]
    return markup.cards(
        [
            (
                "With removal",
                f"{median(taken['hard']):.1f} ms",
                f"{min(taken['hard']):.1f} to {max(taken['hard']):.1f}",
            ),
            (
                "With all tokens",
                f"{median(taken['none']):.1f} ms",
                f"{min(taken['none']):.1f} to {max(taken['none']):.1f}",
            ),
            (
                "Speed",
                f"{median(ratios):.2f}x",
                f"{REPEATS} pairs, one text at a time, {min(ratios):.2f} to {max(ratios):.2f}",
            ),
        ]
    )

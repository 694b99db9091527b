"""View *How it works*: the method, its equations with the numbers of the chosen text, and a glossary."""

from __future__ import annotations

import streamlit as st

from app import export, markup
from app.context import Context
from app.tracing import ADAPLER, Trace

PAPER = (
    "[AdapLeR: Speeding up Inference by Adaptive Length Reduction](https://aclanthology.org/2022.acl-long.1), "
    "Modarressi, Mohebbi and Pilehvar, ACL 2022"
)
TERMS = {
    "Token": "a piece of the text as the model reads it: a common word, or a part of a rare one.",
    "Layer": "one of the steps, numbered from 0, in which the tokens look at each other.",
    "Contribution score": "a token's share of importance before a layer; those of the tokens that are left sum to 1.",
    "n": "the number of tokens that are left when a layer decides; 1/n is the mean score.",
    "Threshold": "the score below which a layer drops a token: \u03b7/n, where \u03b7 was learned.",
    "Threshold scale": "a factor on every threshold: above 1 more tokens are dropped, 0 keeps all.",
    "With all tokens": "the same model without removal.",
    "FLOPs": "multiplications and additions of a pass: fewer mean less work, whatever the machine.",
    "AP": "average precision: whether the marked tokens have the highest scores; 1 is best. Chance: of random scores.",
    "FPR, TPR": "the share of unmarked and of marked tokens with a score of at least 1/n.",
}


def render(context: Context) -> None:
    context.head.html(
        markup.title("How it works", "A model that reads every token at every layer also reads those that say nothing.")
    )
    document, trace = context.read()
    st.markdown(f"AdapLeR drops tokens on the way. {PAPER}.")
    token = followed(trace)
    layer = 0 if token is None else int(trace.depth[token])
    if trace.policy == ADAPLER:
        _equations(trace, layer, scale=context.scale)
    else:
        st.info(
            f"This checkpoint drops tokens by the policy `{trace.policy}`; docs/explanation/policies.md explains it."
        )
    if token is not None and trace.policy == ADAPLER:
        n = int(trace.present[layer])
        score, limit = float(trace.scores[layer, token]) * n, float(trace.thresholds[layer]) * n
        word = markup.literal(trace.surfaces[token])
        st.markdown(rf"**{word}** scores {score:.2f}/n before layer {layer}; the threshold is {limit:.2f}/n: dropped.")
    st.header("Fewer tokens, less to compute")
    columns = {
        "threshold": st.column_config.NumberColumn(format="%.5f"),
        "speedup": st.column_config.NumberColumn(format="%.1fx"),
    }
    st.dataframe(export.layer_table(trace), hide_index=True, column_config=columns)
    st.markdown(
        f"In all {markup.flops(trace.flops)} instead of {markup.flops(trace.plain_flops)}: {trace.speedup:.2f}x less."
    )
    st.header("The words of this page")
    st.markdown("\n".join(f"- **{name}**: {said}" for name, said in TERMS.items()))


def followed(trace: Trace) -> int | None:
    """A whole word that some layers read and a later one drops: of these the one with the highest first score."""
    words = trace.words.tolist()
    whole = [
        token
        for token in range(len(trace))
        if words[token] >= 0
        and words.count(words[token]) == 1
        and trace.surfaces[token].isalpha()
        and len(trace.surfaces[token]) > 2
        and 0 < trace.depth[token] < trace.layers
    ]
    return max(whole, key=lambda token: float(trace.scores[0, token]), default=None)


def _equations(trace: Trace, layer: int, *, scale: float) -> None:
    n, limit = int(trace.present[layer]), float(trace.thresholds[layer])
    st.header("Every token gets a score")
    st.latex(r"s_i = W_2\,\mathrm{act}(W_1 h_i + b_1) + b_2 \qquad S_i = \frac{e^{s_i}}{\sum_j e^{s_j}}")
    st.markdown(
        "A Contribution Predictor, two small matrices, reads the state $h_i$ of each of the $n$ tokens that are left "
        f"(a contextual one also a summary of the text around it). Before layer {layer} of this text $n = {n}$."
    )
    st.header("Tokens below the threshold are dropped")
    st.latex(r"\text{token } i \text{ is dropped if } S_i < \delta = c\,\frac{\eta}{n}")
    if scale:
        st.markdown(
            rf"$\eta$ is learned for each layer, $c$ is the threshold scale. At layer {layer}: "
            rf"$\delta = {scale:g} \cdot {limit * n / scale:.3f} / {n} = {limit:.4f}$."
        )

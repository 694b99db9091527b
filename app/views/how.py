"""How it works: the method, its equations with the numbers of the text and the model that are chosen, all terms."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from adapler.policies import policy_class
from app.markup import cards, strip
from app.markup.render import SMALL
from app.markup.terms import OF_ADAPLER, RULES, TERMS
from app.model.tracing import ADAPLER, Trace
from app.panels import common

PAPER = "https://aclanthology.org/2022.acl-long.1"
TITLE = "AdapLeR: Speeding up Inference by Adaptive Length Reduction"
TOUR = (
    ("What is asked", "Which tokens does the classifier need? Press **Play** on *Layer by layer*: before each layer, "
     "the tokens that it does without are struck through, and fade."),
    ("Why a token goes", "Click a token, or go to one with Tab and the arrow keys and press Enter. Its score, the "
     "threshold and its rank at each layer appear below the text."),
    ("Do people agree?", "Underlined words were marked by a person as the evidence. *Compare methods* says how well "
     "the scores of each method find them."),
    ("How much faster?", "*Budget* moves the threshold scale: fewer tokens, fewer FLOPs, and at some point another "
     "verdict."),
    ("Your turn", "Choose *Your own text* at the side, in every view. The address of the page holds what you see: "
     "copy it to show it to somebody."),
)  # fmt: skip

SCORED = "1. Every token gets a score"
JUDGED = "2. Tokens below the {} are dropped"


def tour() -> None:
    """Five steps, as a dialog."""
    if st.sidebar.button("Tour in five steps", key="tour", width="stretch"):
        st.session_state.step = 0
        st.dialog("The page in five steps")(_tour)()


def _tour() -> None:
    step = st.session_state.setdefault("step", 0)
    title, text = TOUR[step]
    st.markdown(f"**{step + 1}. {title}.** {text}")
    left, right = st.columns(2)
    if left.button("Back", key="tour-back", disabled=step == 0, width="stretch"):
        st.session_state.step = step - 1
        st.rerun(scope="fragment")
    if step + 1 < len(TOUR):
        if right.button("Next", key="tour-next", width="stretch", type="primary"):
            st.session_state.step = step + 1
            st.rerun(scope="fragment")
    elif right.button("Close", key="tour-close", width="stretch", type="primary"):
        st.rerun()


def paper() -> str:
    """The paper, in Markdown."""
    return f"[{TITLE}]({PAPER}), Modarressi, Mohebbi and Pilehvar, ACL 2022"


def _predictor(name: str) -> tuple[str, str]:
    """What a checkpoint's predictor adds to the paper's equation, and who reads what, in words."""
    alone = (
        "A Contribution Predictor, two small matrices, reads the state $h_i$ of each of the $n$ tokens that are left."
    )
    if name == "contextual":
        return "+ r_i", (
            f"{alone} This checkpoint's is not the paper's: $r_i$ is what it adds of the text around the token, the "
            "mean of the tokens that are left and the two neighbours on either side. The paper's has no $r_i$."
        )
    return "", alone if name == "mlp" else f"{alone} This checkpoint's predictor is another one, `{name}`."


def _adapler(trace: Trace, layer: int, *, scale: float, predictor: str) -> None:
    n, limit = int(trace.present[layer]), float(trace.thresholds[layer])
    st.header(SCORED)
    around, reads = _predictor(predictor)
    st.latex(rf"s_i = W_2\,\mathrm{{act}}(W_1 h_i {around} + b_1) + b_2")  # one under the other: both fit on a phone
    st.latex(r"S_i = \frac{e^{s_i}}{\sum_j e^{s_j}}")
    st.markdown(f"{reads} At layer {layer} of this text $n = {n}$, so that $1/n = {1 / n:.4f}$.")
    st.header(JUDGED.format("threshold"))
    st.latex(r"\delta = c\,\frac{\eta}{n}")
    st.latex(r"\text{token } i \text{ is dropped if } S_i < \delta")
    learned = r"$\eta$ is learned for each layer and $c$ is the threshold scale. "
    if scale:
        eta = limit * n / scale
        st.markdown(rf"{learned}At layer {layer}: $\delta = {scale:g} \cdot {eta:.3f} / {n} = {_share(limit)}$.")
    else:
        st.markdown(rf"{learned}It is 0 now, so that $\delta = 0$ and every token stays.")


def _other(trace: Trace, layer: int, *, scale: float, policy: str) -> None:
    """Of a policy that somebody wrote for themselves, the numbers alone are known."""
    rule = RULES.get(policy)
    whose = "its equations are not known here" if rule is None else rule.paper or "a control, to measure others by"
    st.info(f"This checkpoint drops tokens by another policy than AdapLeR's, `{policy}`: {whose}.")
    st.header(SCORED)
    for equation in rule.score if rule else ():
        st.latex(equation)
    if rule:
        st.markdown(rule.reads)
    if policy_class(policy).place == "between":
        st.markdown(
            "It decides after a layer's attention: what layer $l$ drops is gone from layer $l + 1$ on, and this page "
            "shows its scores and its bar there."
        )
    st.header(JUDGED.format("bar"))
    for equation in rule.bar if rule else ():
        st.latex(equation)
    st.markdown(
        f"$c$ is the threshold scale. At layer {layer} of this text $n = {trace.present[layer]}$, and the bar is "
        f"${_latex(trace.thresholds[layer])}$."
        if scale
        else "$c$ is the threshold scale. It is 0 now, so that every token stays."
    )


def _share(value: float) -> str:
    """A score of AdapLeR's or its threshold, as the text's tooltips say it."""
    return f"{value:.4f}" if value >= SMALL else _latex(value)


def _latex(value: float) -> str:
    """Four digits; 1e-05 would be set as 1e - 05.

    >>> _latex(0.25), _latex(1e-5)
    ('0.25', '1 \\\\cdot 10^{-5}')
    """
    digits, _, power = f"{value:.4g}".partition("e")
    return rf"{digits} \cdot 10^{{{int(power)}}}" if power else digits


def show(trace: Trace, *, scale: float, policy: str = ADAPLER, predictor: str = "mlp") -> None:
    """trace: of tokens; policy: what drops them in this checkpoint; predictor: what scores them, if it is AdapLeR's."""
    method = "**AdapLeR** (adaptive length reduction)" if policy == ADAPLER else "A model with a removal policy"
    whose = f" The method is that of {paper()}." if policy == ADAPLER else ""
    st.markdown(
        "A BERT reads every token of a text at every layer, also those that say nothing about the answer. "
        f"{method} drops tokens on the way, and so has less to compute. What it keeps to the end is what it "
        f"needed.{whose}"
    )
    token = strip.followed(trace)
    decided = [layer for layer in range(trace.layers) if layer not in trace.undecided]
    layer = next(iter(decided), 0) if token is None else int(trace.depth[token])
    if policy == ADAPLER:
        _adapler(trace, layer, scale=scale, predictor=predictor)
    else:
        _other(trace, layer, scale=scale, policy=policy)
    if token is not None:
        numbers = (float(one[layer]) for one in (trace.scores[:, token], trace.thresholds))
        letter = "S" if policy == ADAPLER else "s"
        score, limit = map(_share if policy == ADAPLER else _latex, numbers)
        word = common.literal(trace.surfaces[token])
        st.markdown(
            rf"The word **{word}** scores ${letter} = {score}$ there, and ${score} < {limit}$: dropped. "
            f"{common.literal(trace.pieces[0])} is never dropped, as the classifier reads its last state."
        )
    st.header("3. Fewer tokens, less to compute")
    unit, size = cards.unit(trace.layer_flops.max())
    bar = "threshold" if policy == ADAPLER else "bar"
    table = pd.DataFrame(
        {
            "layer": range(trace.layers),
            "n (tokens scored)": pd.array(
                [None if one in trace.undecided else int(trace.present[one]) for one in range(trace.layers)],
                dtype="Int64",
            ),
            bar: trace.known_thresholds,
            **({"times 1/n": trace.known_thresholds * trace.present} if policy == ADAPLER else {}),
            "tokens that enter": trace.lengths,
            f"{unit}FLOPs": trace.layer_flops / size,
        }
    )
    columns = {
        bar: st.column_config.NumberColumn(format="%.5f"),
        "times 1/n": st.column_config.NumberColumn(format="%.2f"),
        f"{unit}FLOPs": st.column_config.NumberColumn(format="%.2f"),
    }
    st.dataframe(table, hide_index=True, column_config=columns, height="content")
    ratio = f"${trace.speedup:.2f}$ times fewer" if trace.speedup >= 1 else f"${1 / trace.speedup:.2f}$ times as many"
    st.markdown(f"In all {cards.flops(trace.flops, trace.plain_flops)}: {ratio}.")
    st.header("The words of this page")
    # not a data frame, which cuts a sentence that is wider than its column
    shown = {word: said for word, said in TERMS.items() if policy == ADAPLER or word not in OF_ADAPLER}
    for name, own in (("[CLS]", trace.pieces[0]), ("[SEP]", trace.pieces[-1])):  # of another tokenizer they are others
        shown = {word.replace(name, own): said.replace(name, own) for word, said in shown.items()}
    st.markdown("\n".join(f"- **{common.literal(word)}**: {common.literal(said)}" for word, said in shown.items()))

"""The facts around a text -> HTML: the four cards, lengths as bars, measured time. Text is escaped here."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from statistics import median

from app.markup.terms import term
from app.model.measuring import Timing
from app.model.tracing import Trace
from app.sources import labels


def verdict(trace: Trace, gold: str | None, *, known: Sequence[str] = ()) -> str:
    """The four facts at the top: the prediction, what it cost, how many tokens are left, what changed.

    trace: of tokens, not of whole words; gold, known: as `labels.match` takes them.
    """
    same = trace.label == trace.full_label
    cards = (
        (
            term("verdict", "Verdict"),
            f"{escape(trace.label)} {percent(float(trace.probabilities.max()))}",
            _judged(trace, gold, known),
        ),
        (term("FLOPs", "Compute"), cheaper(trace.speedup), flops(trace.flops, trace.plain_flops)),
        (term("token", "Tokens"), f"{trace.lengths[-1]} of {len(trace)} tokens", "reach the last layer"),
        (
            term("removal", "Without removal"),
            "same verdict" if same else "different verdict",
            f"{escape(trace.full_label)} {percent(float(trace.full_probabilities.max()))} with all tokens",
        ),
    )
    return facts(cards)


def facts(rows: Sequence[tuple[str, str, str]]) -> str:
    """Cards in a row. rows: what, value and note of each, as HTML."""
    return (
        '<div class="al-cards">'
        + "".join(
            f'<div class="al-card"><div class="al-what">{what}</div><div class="al-value">{value}</div>'
            f'<div class="al-note">{note}</div></div>'
            for what, value, note in rows
        )
        + "</div>"
    )


def before_after(before: Trace, after: Trace, *, names: tuple[str, str] = ("before", "after")) -> str:
    """The facts of two traces, of a text and of the edited text say, side by side. Both traces have tokens.

    names: what each is called, plain text. The probability is that of the first one's verdict in both; a model that
    does not know this class has none."""
    rows = (
        ("Verdict", escape(before.label), escape(after.label)),
        (f"Probability of {escape(before.label)}", *(_probability(one, before.label) for one in (before, after))),
        ("Without removal", escape(before.full_label), escape(after.full_label)),
        ("Tokens", f"{before.lengths[-1]} of {len(before)}", f"{after.lengths[-1]} of {len(after)}"),
        ("FLOPs", _flops_of(before.flops), _flops_of(after.flops)),
        ("Speedup", f"{before.speedup:.2f}x", f"{after.speedup:.2f}x"),
    )
    body = "".join(
        f'<tr{" class=al-changed" if old != new else ""}><th scope="row">{what}</th><td>{old}</td><td>{new}</td></tr>'
        for what, old, new in rows
    )
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    return (
        f'<div class="al-player"><div class="al-detail"><table><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div></div>"
    )


def _probability(trace: Trace, label: str) -> str:
    return percent(float(trace.probabilities[trace.labels.index(label)])) if label in trace.labels else "none"


def percent(probability: float) -> str:
    """93%, 99.8%, 0.4%; never 100% or 0%, which a softmax does not say: &gt;99.9%, &lt;0.1%."""
    if probability >= 0.9995:
        return "&gt;99.9%"
    if probability < 0.0005:
        return "&lt;0.1%"
    return f"{probability:.0%}" if 0.015 <= probability < 0.985 else f"{probability:.1%}"


def cheaper(speedup: float) -> str:
    """3.4x fewer FLOPs; near or below 1, where the predictors cost what they save, it says so."""
    return f"{speedup:.1f}x fewer FLOPs" if speedup >= 1.05 else f"{1 / speedup:.2f}x the FLOPs"


def length_bars(trace: Trace) -> str:
    """How many tokens (or words) enter each layer, as bars under the whole text's."""
    rows = [("text", len(trace)), *((f"layer {layer}", int(length)) for layer, length in enumerate(trace.lengths))]
    bars = "".join(
        f'<div class="al-what">{name}</div>'
        f'<div class="al-bar"><i style="width:{100 * length / len(trace):.1f}%"></i></div><div>{length}</div>'
        for name, length in rows
    )
    return f'<div class="al-bars">{bars}</div>'


def timing(measured: Timing | None) -> str:
    """Measured milliseconds with their range, and what they say; None: nothing is measured yet."""
    if measured is None:
        return '<p class="al-timing">Milliseconds on this server: <b>not measured yet</b>.</p>'
    ratio = measured.ratio
    said = f"{ratio:.2f}x as fast" if ratio >= 1 else f"{1 / ratio:.2f}x as slow"
    low, high = min(measured.ratios), max(measured.ratios)
    return (
        f'<p class="al-timing"><b>{_range(measured.removal)}</b> with removal, <b>{_range(measured.plain)}</b> '
        f"without: {said} (median of pairs; removal gives {low:.2f}x to {high:.2f}x the speed). "
        f"<small>Medians with their range, {len(measured.ratios)} passes of each after one that is not counted, "
        "one text at a time, on this server. Whatever else it runs at the same time changes them.</small></p>"
    )


def _range(milliseconds: Sequence[float]) -> str:
    low, high = min(milliseconds), max(milliseconds)
    return f"{short(median(milliseconds))} ms ({short(low)} to {short(high)})"


def short(milliseconds: float) -> str:
    """As many digits as tell 12 from 13, 1.2 from 1.3, 0.12 from 0.13."""
    return f"{milliseconds:.{0 if milliseconds >= 10 else 1 if milliseconds >= 1 else 2}f}"


def _judged(trace: Trace, gold: str | None, known: Sequence[str]) -> str:
    """Whether the verdict is right; never "wrong" where the label and the model's classes cannot be compared."""
    if gold is None:
        return "no gold label"
    found = labels.match(gold, trace.labels, known=known)
    if found.index is None:
        return f"gold label {escape(gold)} is none of this model's ({escape(', '.join(trace.labels))})"
    name = trace.labels[found.index]
    meant = f" ({escape(name)} by number)" if found.by_number else ""
    return f"gold label {escape(gold)}{meant}: {'right' if name == trace.label else 'wrong'}"


def _flops_of(count: float) -> str:
    name, size = unit(count)
    return f"{count / size:.2f} {name}FLOPs"


def unit(count: float) -> tuple[str, float]:
    """The letter that stands before FLOPs, and how many one of them is."""
    return next(((name, size) for name, size in (("G", 1e9), ("M", 1e6)) if count >= size), ("k", 1e3))


def flops(removal: float, plain: float) -> str:
    """Both counts in the unit that suits the larger."""
    name, size = unit(plain)
    return f"{removal / size:.2f} instead of {plain / size:.2f} {name}FLOPs"

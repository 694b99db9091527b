"""Evaluation protocols: which tokens, in which units, by which metrics.

`python -m analysis.evaluation.protocols` prints the table of how they differ. Numbers of different protocols are not
comparable, not even where a metric has the same name.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

from adapler.errors import ArgumentError, CommandParser, run_command
from analysis.metrics.faithfulness import BINS, FaithfulnessSettings
from analysis.metrics.registry import FERRET_K, get_metric

_FAITHFULNESS = tuple(
    name
    for kind in ("comprehensiveness", "sufficiency")
    for name in (*(f"{kind}_{percent}" for percent in BINS), f"aopc_{kind}")
)


@dataclass(frozen=True)
class Protocol:
    """A preset; options of the command override its parts one by one.

    policy          which part of a long document is seen: "truncate", "rationale-windows" or "all-windows"
    aggregation     of wordpiece scores to words: "none", "max", "mean" or "sum"
    metrics         names of `analysis.metrics.registry`, checked
    hard_selection  in words: how scores become a set of tokens
    faithfulness    how tokens are taken away, for metrics of that group
    all_rationale   judge documents too whose every token is rationale
    source          the paper it follows; note: where it does not, or what to know
    """

    name: str
    policy: str
    aggregation: str
    metrics: tuple[str, ...]
    hard_selection: str
    source: str
    note: str
    faithfulness: FaithfulnessSettings = field(default_factory=FaithfulnessSettings)
    all_rationale: bool = False

    def __post_init__(self) -> None:
        for metric in self.metrics:
            get_metric(metric)

    @property
    def needs_model(self) -> bool:
        """Whether a metric asks the model for predictions of perturbed inputs."""
        return any(get_metric(metric).function is None for metric in self.metrics)


PROTOCOLS: dict[str, Protocol] = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            name="paper",
            policy="truncate",
            aggregation="none",
            metrics=(
                "average_precision",
                *(f"{rate}{variant}" for variant in ("", "_present", "_content") for rate in ("fpr", "tpr", "j")),
            ),
            hard_selection="score >= 1/n; n = tokens of the input, tokens present at the layer (_present), or content "
            "tokens with scores renormalised over them (_content)",
            source="AdapLeR (Modarressi et al., 2022)",
            note="AP is the step-wise area. TPR and J stand beside FPR, since selecting nothing has a perfect FPR. The "
            "reference code looks at windows around rationales: --policy rationale-windows.",
        ),
        Protocol(
            name="eraser",
            policy="all-windows",
            aggregation="max",
            metrics=(
                "auprc",
                "average_precision",
                "roc_auc",
                "token_f1",
                "iou_f1",
                *_FAITHFULNESS,
                "comprehensiveness_at_density",
                "sufficiency_at_density",
            ),
            hard_selection="the method's own hard rationale where it has one, else the k best words, k = ceil(density "
            "of the validation (else training) split x words); ties at random, in the mean",
            source="ERASER (DeYoung et al., 2020) and its official scorer",
            note="AUPRC is the trapezoid, which flatters ties. token_f1 and iou_f1 are means over documents; micro "
            "and macro as the scorer prints them, annotated spans counted as they stand in the files: eraser_scores in "
            "the report. The scorer counts one set of words: where words tie for the last places, as dropped ones do, "
            "eraser_scores takes one random order of the seed, token_f1 the mean over all of them, so its instance "
            "macro F1 differs a little from token_f1. Documents whose every word is rationale count, but not in AP and "
            "ROC-AUC, as in the scorer. ERASER leaves the way from "
            "wordpieces to words open: a word counts as its best wordpiece. Faithfulness takes away wordpieces, not "
            "words; its AOPC is the mean over the bins, as in the scorer (the paper's formula divides by one more).",
            all_rationale=True,
        ),
        Protocol(
            name="ferret",
            policy="truncate",
            aggregation="none",
            metrics=(
                "auprc_positive",
                "token_f1_at_5",
                "token_iou_at_5",
                "token_f1_at_mean",
                "token_iou_at_mean",
                "aopc_comprehensiveness",
                "aopc_sufficiency",
                "loo_kendall",
            ),
            hard_selection=f"the best tokens, of those with a positive score: {FERRET_K} of them, as ferret does for "
            "one text, or (_at_mean) as many as a rationale has on average, as it does for a data set",
            source="ferret (Attanasio et al., 2023), version 0.4.2, defaults of its evaluators",
            note="IOU is over tokens, not spans. Only positive scores count. The mean size is that of the "
            "validation (else training) split; ferret has constants (HateXplain 7, movies 78, SST 10). Equal to "
            "ferret's numbers on the same "
            "scores, but for three things. ferret decodes the remaining tokens to text and tokenises that anew, "
            "which can turn a wordpiece without its head into others; here the ids stay. Where no score is positive, "
            "ferret's AOPC is 0 (comprehensiveness) and 1 (sufficiency); here it is undefined, and counted. Of equal "
            "scores at the edge of a set, ferret takes late ones; here it is the mean over all ways, or a random "
            "order. HateXplain in ferret is the "
            "union of the annotators' rationales.",
            faithfulness=FaithfulnessSettings(bins=tuple(range(10, 101, 10)), rounding="down", positive_only=True),
        ),
    )
}


def get_protocol(name: str) -> Protocol:
    """The protocol of that name. Raises ArgumentError with all names for any other."""
    if name not in PROTOCOLS:
        raise ArgumentError(f"protocol: got {name!r}, allowed are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def rows() -> list[tuple[str, ...]]:
    """The table: a header, then an aspect a row with a cell per protocol."""
    units = {"none": "wordpieces", "max": "words, each its best wordpiece"}
    aspects: list[tuple[str, list[str]]] = [
        ("source", [p.source for p in PROTOCOLS.values()]),
        ("policy", [p.policy for p in PROTOCOLS.values()]),
        ("units", [f"{units[p.aggregation]} (aggregation {p.aggregation})" for p in PROTOCOLS.values()]),
        ("metrics", [", ".join(p.metrics) for p in PROTOCOLS.values()]),
        ("hard selection", [p.hard_selection for p in PROTOCOLS.values()]),
        ("faithfulness", [_faithfulness(p) for p in PROTOCOLS.values()]),
        ("note", [p.note for p in PROTOCOLS.values()]),
    ]
    return [("", *PROTOCOLS), *((aspect, *cells) for aspect, cells in aspects)]


def plain_table(width: int = 118) -> str:
    """The table as text, wrapped to `width` characters."""
    first, gap = 16, 2
    column = (width - first) // len(PROTOCOLS) - gap
    lines = []
    for head, *cells in rows():
        wrapped = [textwrap.wrap(cell, column) for cell in cells]
        for i in range(max(len(cell) for cell in wrapped)):
            parts = [cell[i] if i < len(cell) else "" for cell in wrapped]
            text = (head if i == 0 else "").ljust(first) + (" " * gap).join(part.ljust(column) for part in parts)
            lines.append(text.rstrip())
        lines.append("-" * width if not head else "")
    return "\n".join(lines).rstrip() + "\n"


def markdown_table() -> str:
    """The table in Markdown."""
    table = [list(row) for row in rows()]
    lines = ["| " + " | ".join(row) + " |" for row in table]
    return "\n".join([lines[0], "|" + " --- |" * len(table[0]), *lines[1:]]) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = CommandParser(
        prog="python -m analysis.evaluation.protocols",
        description="How the evaluation protocols differ.",
        epilog="example: python -m analysis.evaluation.protocols --markdown > protocols.md",
    )
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    options = parser.parse_args(argv)
    print(markdown_table() if options.markdown else plain_table(), end="")
    return 0


def _faithfulness(protocol: Protocol) -> str:
    settings = protocol.faithfulness
    bins = ", ".join(str(percent) for percent in settings.bins)
    asked = "" if protocol.needs_model else "only when asked for: "
    rounded = "rounded up" if settings.rounding == "up" else "rounded down, empty and equal bins left out"
    positive = ", positive scores only" if settings.positive_only else ""
    return f"{asked}{settings.variant}, the best {bins} % of wordpieces, {rounded}{positive}"


if __name__ == "__main__":
    raise SystemExit(run_command(main))

"""Options of `python -m analysis.rationale_eval`."""

from __future__ import annotations

import argparse

from analysis.documents.aggregation import AGGREGATIONS
from analysis.documents.alignment import POLICIES
from analysis.evaluation.cache import VARIABLE
from analysis.evaluation.protocols import PROTOCOLS
from analysis.evaluation.run import PAPER_METHODS
from analysis.evaluation.settings import DTYPES, MAX_LENGTH, TOKEN_BUDGET
from analysis.metrics.faithfulness import VARIANTS
from analysis.metrics.registry import GROUPS
from analysis.scores import method_names

EXAMPLE = """examples:
  python -m analysis.rationale_eval --adapler checkpoints/movies-minilm --data data/eraser/movies \\
      --split val --methods saliency cp random --output reports/movies-val
  python -m analysis.rationale_eval --model DIR_OR_HUB --data data/eraser/movies --protocol eraser \\
      --methods attention "integrated_gradients(n_steps=20)" --human human.jsonl --faithfulness-layers 0 5

Without arguments: the embedded checkpoint on data/eraser/movies if that is there, else on data/eraser/sample.
"""


def build_parser() -> argparse.ArgumentParser:
    """The command's options."""
    parser = argparse.ArgumentParser(
        prog="python -m analysis.rationale_eval",
        description="Attribution scores against human rationales: agreement of each method at each layer.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    _inputs(parser.add_argument_group("what is evaluated"))
    _protocol(parser.add_argument_group("how (an option overrides that part of the protocol)"))
    _running(parser.add_argument_group("running"))
    _outputs(parser.add_argument_group("results"))
    return parser


def _inputs(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--adapler", metavar="DIR", help="an AdapLeR checkpoint (default: checkpoints/movies-minilm)")
    add(
        "--model",
        metavar="DIR_OR_HUB",
        help="a fine-tuned classifier (default: the AdapLeR checkpoint's backbone)",
    )
    add(
        "--data",
        metavar="DIR_OR_FILE",
        help="a folder or archive in ERASER layout, or JSON lines with tokens, label and rationale "
        "(default: data/eraser/movies, else sample)",
    )
    add("--split", default="test", help="default: test")
    add("--limit", type=int, metavar="N", help="the first N documents only")
    add(
        "--methods",
        nargs="*",
        metavar="NAME",
        help=f"of {', '.join(method_names())}, with options as in 'NAME(option=value)' "
        f"(python -m analysis.scores lists them); default: {' '.join(PAPER_METHODS)}",
    )
    add(
        "--predictions",
        nargs="+",
        default=[],
        metavar="FILE",
        help="rationales in ERASER's format, each file one more method",
    )
    add("--human", metavar="FILE", help="the same, of human annotators: the ceiling")


def _protocol(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--protocol",
        default="paper",
        choices=tuple(PROTOCOLS),
        help="a preset of policy, aggregation and metrics (python -m analysis.evaluation.protocols; default: paper)",
    )
    add("--policy", choices=POLICIES, help="how a document longer than the input is seen")
    add("--aggregate", choices=AGGREGATIONS, help="wordpiece scores to word scores")
    add(
        "--metrics",
        nargs="+",
        metavar="NAME",
        help=f"names of analysis.metrics, or of a group of them ({', '.join(GROUPS)})",
    )
    add("--faithfulness-variant", choices=VARIANTS, help="how faithfulness takes tokens away")
    add(
        "--faithfulness-layers",
        nargs="+",
        type=int,
        metavar="LAYER",
        help="layers whose scores faithfulness judges (default: all)",
    )
    add(
        "--queries",
        choices=("auto", "yes", "no"),
        default="auto",
        help="queries as second segment (default: auto, when they differ between documents)",
    )
    add(
        "--max-length",
        type=int,
        metavar="N",
        help=f"wordpieces of an input (default: {MAX_LENGTH}, or what the model takes if that is less)",
    )
    add("--threshold-scale", type=float, default=1.0, metavar="X", help="multiplies every eta (default: 1.0)")


def _running(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--token-budget",
        type=int,
        default=TOKEN_BUDGET,
        metavar="N",
        help=f"tokens a batch (default: {TOKEN_BUDGET})",
    )
    add("--dtype", default="float32", choices=tuple(DTYPES), help="bfloat16: autocast (default: float32)")
    add("--seed", type=int, default=0, help="of random scores and bootstrap (default: 0)")
    add(
        "--cache",
        metavar="DIR",
        help=f"where scores are kept for the next run (default: ${VARIABLE}, or ~/.cache/adapler/scores)",
    )
    add("--no-cache", action="store_true", help="keep and reuse no scores")


def _outputs(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--output", metavar="DIR", help="default: reports/DATA-SPLIT")
    add("--examples", type=int, default=3, metavar="N", help="documents shown token by token (default: 3)")
    add("--rationales", metavar="DIR", help="write every method's rationales there, in ERASER's format")
    add(
        "--rationale-layer",
        type=int,
        metavar="LAYER",
        help="of those (default: the layer with the best average precision)",
    )

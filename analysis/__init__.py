"""Attribution scores compared with human rationales, layer by layer. What happens to a document, and in which file:

1. rationale_eval.py                a call or a command: `Settings` (scoring.py), then everything below
2. scoring.py, corpus.py, marks.py  names become models, a tokenizer and annotated documents
3. corpus.py                        words and their rationale become windows of wordpieces
4. scores/, scoring.py              every method scores every window, layer by layer (kept on disk)
5. metrics/                         a unit's scores against its rationale: AP, FPR, ...; faithfulness.py, eraser.py
6. report.py, figures/, page.py     the frame of all values: means, intervals, tests, tables, figures, pages
7. explanation.py                   the same for one text

    from analysis import rationale_eval
    report = rationale_eval.evaluate(adapler="checkpoints/movies-minilm", data="data/eraser/sample")

    from analysis import explain
    e = explain("the plot is dull but the acting is wonderful .", methods=["cp", "saliency"])

or, from a shell, `python -m analysis.rationale_eval --help`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis import rationale_eval
    from analysis.corpus import load_corpus
    from analysis.explanation import explain
    from analysis.report import RationaleReport

__all__ = ["RationaleReport", "explain", "load_corpus", "rationale_eval"]

# Imported on first use, so that `python -m analysis.scores` does not load what it does not need.
_WHERE = {"RationaleReport": "report", "explain": "explanation", "load_corpus": "corpus"}


def __getattr__(name: str) -> Any:
    if name == "rationale_eval":
        return import_module("analysis.rationale_eval")
    if name not in _WHERE:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    return getattr(import_module(f"analysis.{_WHERE[name]}"), name)

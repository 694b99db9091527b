"""Attribution scores compared with human rationales, layer by layer. What happens to a document, and in which file:

1. rationale_eval.py, command/          a call or a command becomes `Settings` (evaluation/settings.py)
2. loading.py, documents/corpora.py     names become models, a tokenizer and annotated documents
3. documents/alignment.py               words and their rationale become windows of wordpieces
4. evaluation/plan.py                   which documents, which windows; what can be known before a model runs
5. scores/, evaluation/scoring.py       every method scores every window, layer by layer (kept in evaluation/cache/)
6. documents/units.py                   windows become the units that are judged: one window, or a whole document
7. metrics/, evaluation/judging.py      a unit's scores against its rationale: AP, FPR, ..., faithfulness
8. report.py                            all values become one report: means, intervals, tests, tables, files
9. figures/, page.py                    figures and pages of a report

    from analysis import rationale_eval
    report = rationale_eval.evaluate(adapler="checkpoints/movies-minilm", data="data/eraser/sample")

    from analysis import explain
    e = explain("the plot is dull but the acting is wonderful .", methods=["cp", "saliency"])

or, from a shell, `python -m analysis.rationale_eval --help`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from analysis.explain import explain

if TYPE_CHECKING:
    from analysis import rationale_eval
    from analysis.report import RationaleReport

__all__ = ["RationaleReport", "explain", "rationale_eval"]

# Imported when asked for, so that `python -m analysis.scores` does not load what it does not need.
_WHERE: dict[str, tuple[str, str | None]] = {
    "RationaleReport": ("analysis.report", "RationaleReport"),
    "rationale_eval": ("analysis.rationale_eval", None),
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'analysis' has no attribute {name!r}")
    module, attribute = _WHERE[name]
    found = import_module(module)
    return found if attribute is None else getattr(found, attribute)

"""One text explained: `analysis.explain` and the object that it returns.

text -> `text.read_text` (wordpieces, words) -> `run.run` (every method on the model) -> `result.Explanation`
(table, metrics, page, figure).
"""

from analysis.explanation.result import Explanation, MethodScores

__all__ = ["Explanation", "MethodScores"]

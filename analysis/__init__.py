"""Attribution scores compared with human rationales, layer by layer.

    from analysis import rationale_eval
    report = rationale_eval.evaluate(adapler="checkpoints/movies-minilm", data="data/eraser/sample")

    from analysis import explain
    e = explain("for all its polish , the film never once comes alive .", methods=["cp", "saliency"])

or, from a shell, `python -m analysis.rationale_eval --help`.
"""

from analysis.explain import explain

__all__ = ["explain"]

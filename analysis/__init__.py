"""Attribution scores compared with human rationales, layer by layer.

    from analysis import rationale_eval
    report = rationale_eval.evaluate(adapler="checkpoints/movies-minilm", data="data/eraser/sample")

or, from a shell, `python -m analysis.rationale_eval --help`.
"""

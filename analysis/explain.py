"""One text, one model, several scoring methods, one object: the evaluation of a corpus with one text.

from analysis import explain
e = explain("the plot is dull but the acting is wonderful .", methods=["cp", "saliency"], target="NEG")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.explanation import Explanation

OPTIONS = ("max_length", "threshold_scale", "speedup", "seed", "device", "dtype")  # fields of `analysis.settings`


def explain(
    text: str | Sequence[str] | tuple[str | Sequence[str], str | Sequence[str]],
    *,
    model: Any = None,
    tokenizer: Any = None,
    query: str = "",
    methods: Sequence[str | Callable[..., Any]] | str | Callable[..., Any] | None = None,
    target: str | int = "predicted",
    gold: str | int | None = None,
    rationale: Sequence[Any] | None = None,
    scores: Mapping[str, Any] | None = None,
    name: str = "text",
    **options: Any,
) -> Explanation:
    """Score the tokens of one text with several methods, layer by layer.

    Args:
        text: a string; or a list of words; or a pair of texts, a tuple. A string is tokenised as the model's own
            pipeline does, and its words are what stands between white space. A list is tokenised word by word, as the
            documents of `rationale_eval.evaluate` are. Both texts of a pair are scored.
        model: an AdapLeR model or any sequence classifier of transformers: a folder, a hub name or an object; it is
            left as found. Default: the embedded checkpoint, checkpoints/movies-minilm. The last folder or name stays in
            memory, and is loaded again when a file in the folder has changed or a method is a function of your own.
        tokenizer: needed for a model object that does not say where it came from.
        query: a second text that is a question about the first: the model reads it, and it is not scored.
        methods: names of the registry with options, as in "integrated_gradients(n_steps=20)", or functions of your
            own, `(model, batch) -> scores`. Default: cp (AdapLeR's Contribution Predictors; AdapLeR models only),
            saliency, attention, rollout. `cp` scores the model that drops tokens; every other method scores the same
            model without removal.
        target: the logit that gradient and perturbation methods explain: "predicted" (by the model without removal),
            "gold", a class by name or index, or "contrast", "contrast:gold", "contrast:NAME": that class minus the
            strongest other. `methods=["saliency(target=POS)"]` sets it for one method.
        gold: the true class, by name or by index; for target="gold" and methods that need it.
        rationale: words that a human marked, for `metrics` and to be underlined: 0 or 1 for each word, spans
            `(start, end)` of words, or indices of words. Words of a second text follow those of the first.
        scores: scores that were made elsewhere, each one more method: name -> one number a word (or a token), rows of
            them for several layers, or {word: score}. With `methods=[]` and no `model`, nothing is loaded: tokens are
            then words.
        name: the text's name in files and figures. The methods that draw take their seed from it: with a document's
            id their scores are those of an evaluation.
        options: max_length, threshold_scale, speedup, seed, device and dtype, as of `rationale_eval.evaluate`.

    Returns:
        an `analysis.explanation.Explanation`: `to_frame()`, `metrics(rationale)`, `plot(layer)`, `save(path)`, and
        the arrays `scores`, `kept`, `thresholds`, `probabilities`. In a notebook it shows the text, shaded.

    Raises:
        ArgumentError, CheckpointError, DataError: one line that says what is wrong with an argument or the model.

    >>> e = explain("the plot is dull but the acting is wonderful .", methods=["cp", "saliency"], target="NEG")
    >>> e.prediction, e.scores["saliency"].shape
    ('NEG', (6, 12))
    >>> e.to_frame().query("method == 'cp' and layer == 0").nlargest(3, "score")["token"].tolist()
    ['dull', 'wonderful', '[CLS]']
    """
    from adapler.errors import ArgumentError  # here: `import analysis` alone loads no model library
    from analysis import one_text

    if unknown := [option for option in options if option not in OPTIONS]:
        raise ArgumentError(f"{unknown[0]}: no such option, there are {', '.join(OPTIONS)}")
    if not isinstance(scores or {}, Mapping):
        raise ArgumentError(f"scores: got a {type(scores).__name__}, must be a dictionary, {{name: scores}}")
    parts = one_text.parts_of(text, query)
    if model is None and methods is not None and not callable(methods) and len(methods) == 0:
        if not scores:
            raise ArgumentError("methods: got none, and no scores either; at least one is needed")
        read = one_text.read(parts, None, max_length=0, name=name, query=query)
        return one_text.explanation(read, scores=scores, rationale=rationale, gold=gold, name=name)
    return one_text.explained(
        parts,
        source=model,
        tokenizer=tokenizer,
        query=query,
        methods=methods,
        target=target,
        gold=gold,
        rationale=rationale,
        scores=scores or {},
        name=name,
        options=options,
    )

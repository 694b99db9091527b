"""The door: one text, one model, several scoring methods, one object.

from analysis import explain
e = explain("the plot is dull but the acting is wonderful .", methods=["cp", "saliency"], target="NEG")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from analysis.explanation.result import Explanation


def explain(
    text: str | Sequence[str] | tuple[str | Sequence[str], str],
    *,
    model: Any = None,
    tokenizer: Any = None,
    methods: Sequence[str | Callable[..., Any]] | str | Callable[..., Any] | None = None,
    target: str | int = "predicted",
    gold: str | int | None = None,
    rationale: Sequence[Any] | None = None,
    scores: Mapping[str, Any] | None = None,
    max_length: int | None = None,
    threshold_scale: float = 1.0,
    speedup: float | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: str = "float32",
    name: str = "text",
) -> Explanation:
    """Score the tokens of one text with several methods, layer by layer.

    Args:
        text: a string; or a pair `(premise, hypothesis)`, a tuple, both of which are scored; or a list of words, beside
            which a second text is a query, which is not. A string is tokenised as the model's
            own pipeline does, and its words are what stands between white space. A list is tokenised word by word,
            as the documents of `rationale_eval.evaluate` are.
        model: an AdapLeR model or any sequence classifier of transformers: a folder, a hub name or an object; it is
            left as found, and read as it was before `torch.compile`. Default: the embedded checkpoint,
            checkpoints/movies-minilm. Of folders and names the last one stays in memory after methods of the registry,
            and is loaded again when a file in the folder has changed.
        tokenizer: needed for a model object that does not say where it came from.
        methods: names of the registry with options, as in "integrated_gradients(n_steps=20)", or functions of your
            own, `(model, batch) -> scores`. Default: cp (AdapLeR's Contribution Predictors; AdapLeR models only),
            saliency, attention, rollout. `cp` scores the model that drops tokens; every other method scores the same
            model without removal.
        target: the logit that gradient and perturbation methods explain: "predicted" (by the model without removal),
            "gold", a class by name or index, or "contrast", "contrast:gold", "contrast:NAME": that class minus the
            strongest other. `methods=["saliency(target=POS)"]` sets it for one method.
        gold: the true class, by name in any case or by index; for target="gold" and methods that need it.
        rationale: words that a human marked, for `metrics` and to be underlined: 0 or 1 for each word, spans
            `(start, end)` of words, or indices of words.
        scores: scores that were made elsewhere, each one more method: name -> one number a word (or a token), rows of
            them for several layers, or {word: score}. With `methods=[]` and no `model`, nothing is loaded: tokens are
            then words.
        max_length: tokens that are read, special ones included; default: 512, or what the model takes if that is less.
            A longer text is cut there, and the result's `note` says so.
        threshold_scale: multiplies every eta of an AdapLeR model; 0 keeps every token.
        speedup: instead of it: so many times fewer FLOPs, by the curve that `adapler calibrate` stored with the model.
        seed: of the methods that draw.
        device: "auto", "cpu", "cuda", ...; "auto" leaves a model object where it is.
        dtype: number format of the model's layers: "float32", which small scores need; "bfloat16"; or "auto": bfloat16
            where the device computes it in hardware. The result says which it was.
        name: the text's name in files and figures. The methods that draw take their seed from it: with a document's
            id their scores are those of an evaluation.

    Returns:
        an `analysis.explanation.Explanation`: `to_frame()`, `metrics(rationale)`, `plot(layer)`, `save(path)`, and
        the arrays `scores`, `kept`, `thresholds`, `probabilities`. In a notebook it shows the text, shaded.

    Raises:
        ArgumentError, CheckpointError: one line that says what is wrong with an argument or the model.

    >>> e = explain("the plot is dull but the acting is wonderful .", methods=["cp", "saliency"], target="NEG")
    >>> e.prediction, e.scores["saliency"].shape
    ('NEG', (6, 12))
    >>> e.to_frame().query("method == 'cp' and layer == 0").nlargest(3, "score")["token"].tolist()
    ['dull', 'wonderful', '[CLS]']
    """
    from analysis.explanation.run import run  # here: `import analysis` alone loads no model library

    return run(
        text,
        model=model,
        tokenizer=tokenizer,
        methods=methods,
        target=target,
        gold=gold,
        rationale=rationale,
        scores=scores,
        max_length=max_length,
        threshold_scale=threshold_scale,
        speedup=speedup,
        seed=seed,
        device=device,
        dtype=dtype,
        name=name,
    )

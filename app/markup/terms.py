"""What the words of the page mean, one sentence each: where the word stands, and on the page that explains it all."""

from __future__ import annotations

from html import escape

TERMS = {
    "token": "A token is a piece of the text as the model reads it: a common word, or a part of a rare one.",
    "layer": "A layer is one of the steps, numbered from 0, in which the model lets the tokens look at each other.",
    "[CLS]": "[CLS] is a token that the tokenizer puts first; the classifier reads its last state, so it always stays.",
    "[SEP]": "[SEP] is a token that the tokenizer puts behind a text; it is dropped like any other.",
    "Contribution Predictor": "A Contribution Predictor is a small network before each layer that guesses how much "
    "each token matters for the answer.",
    "contribution score": "The contribution score is a token's share of importance before a layer: the scores of the "
    "tokens that are left add up to 1.",
    "n": "n is the number of tokens that a layer's predictor reads: 1/n is the score that each would have if all "
    "mattered alike.",
    "threshold": "The threshold of a layer is the score below which a token is dropped: \u03b7/n, where \u03b7 was "
    "learned and is at most 1.",
    "threshold scale": "The threshold scale multiplies every threshold: above 1 more tokens are dropped, 0 keeps all.",
    "dropped": "A dropped token is read by no later layer; it never comes back.",
    "verdict": "The verdict is the class with the highest probability, in the model that drops tokens.",
    "removal": "Without removal the same model reads all tokens at every layer; this is its verdict then.",
    "FLOPs": "FLOPs count the multiplications and additions of a pass: fewer mean less work, whatever the machine.",
    "evidence": "Evidence are the words that a person marked as the reason for the label; the model reads "
    "the words like all others and never sees the marks.",
    "AP": "AP, average precision, says whether the marked tokens have the highest scores: 1 is best.",
    "chance": "Chance is the average precision that random scores would have on this text.",
    "FPR": "FPR is the share of the unmarked tokens that are selected, that is, score at least 1/n: lower is better.",
    "TPR": "TPR is the share of the marked tokens that are selected: higher is better.",
    "signed": "A signed score may be negative: the token then speaks against the prediction.",
}

OF_ADAPLER = ("Contribution Predictor", "contribution score", "threshold")  # other policies have none


def term(name: str, shown: str | None = None) -> str:
    """HTML: the word, which says what it means under the mouse, a finger or the keyboard's focus."""
    meaning = escape(TERMS[name])
    return (
        f'<button type="button" class="al-term" data-meaning="{meaning}" aria-description="{meaning}">'
        f"{escape(shown or name)}</button>"
    )

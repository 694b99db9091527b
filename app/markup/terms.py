"""What the words of the page mean, one sentence each: where the word stands, and on the page that explains it all. And
how each other policy than AdapLeR scores a token, and how high a score has to be: docs/explanation/policies.md has
more, as how each of them is trained."""

from __future__ import annotations

from dataclasses import dataclass
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
    "n": "n is the number of tokens that are left when a layer decides: 1/n is the mean of scores that add up to 1, "
    "which each would have if all mattered alike.",
    "threshold": "The threshold of a layer is the score below which a token is dropped: \u03b7/n, where \u03b7 was "
    "learned and is at most 1.",
    "threshold scale": "The threshold scale raises or lowers what a score has to reach in every layer: above 1 more "
    "tokens are dropped, 0 keeps all.",
    "dropped": "A dropped token is read by no later layer; it never comes back.",
    "verdict": "The verdict is the class with the highest probability, in the model that drops tokens.",
    "removal": "Without removal the same model reads all tokens at every layer; this is its verdict then.",
    "FLOPs": "FLOPs count the multiplications and additions of a pass: fewer mean less work, whatever the machine.",
    "evidence": "The evidence is the words that a person marked as the reason for the label; the model reads "
    "them like all others and never sees the marks.",
    "AP": "AP, average precision, says whether the marked tokens have the highest scores: 1 is best.",
    "chance": "Chance is the average precision that random scores would have on this text.",
    "FPR": "FPR is the share of the unmarked tokens that are selected, that is, score at least 1/n: lower is better.",
    "TPR": "TPR is the share of the marked tokens that are selected: higher is better.",
    "signed": "A signed score may be negative: the token then speaks against the prediction.",
}

OF_ADAPLER = ("Contribution Predictor", "contribution score", "threshold")  # other policies have none

HIGHEST = r"\text{token } i \text{ is dropped if } s_i < \text{the } k\text{-th highest score}"


@dataclass(frozen=True)
class Rule:
    """Of one policy.

    paper: who published it, "" for a control.
    score, bar: LaTeX, an equation an element, each short enough for a phone; `c` is the threshold scale.
    reads: what the score is of, and what the letters are, in Markdown.
    """

    paper: str
    score: tuple[str, ...]
    bar: tuple[str, ...]
    reads: str


RULES = {
    "cls_topk": Rule(
        "",
        (r"s_i = \frac{1}{H} \sum_h A_h[\mathrm{CLS}, i]",),
        (r"k = \lceil \mathrm{keep} \cdot n / c \rceil", HIGHEST),
        "The attention $A_h$ of [CLS] on the token, the mean of the $H$ heads. A fixed share, `keep`, of the $n$ "
        "tokens that are left stays in each layer.",
    ),
    "ltp": Rule(
        "Kim et al., KDD 2022",
        (r"s_i = \frac{1}{H n} \sum_h \sum_q A_h[q, i]",),
        (
            r"\theta^l = \max(10^{-5},\ \theta_{\mathrm{final}} \cdot l / L + \delta^l)",
            r"\text{token } i \text{ is dropped if } s_i < c\,\theta^l",
        ),
        "The attention $A_h[q, i]$ that the token receives, the mean of the $H$ heads and of the $n$ tokens $q$ that "
        r"are left. Of layer $l$ of $L$, $\delta^l$ is learned.",
    ),
    "power": Rule(
        "Goyal et al., ICML 2020",
        (r"s_i = \frac{1}{H} \sum_h \sum_{q \neq i} A_h[q, i]",),
        (r"k = \lceil k^l / c \rceil", HIGHEST),
        "The attention $A_h[q, i]$ that the token receives from all others, the mean of the $H$ heads. The number "
        "$k^l$ of tokens that stay was found in training, for each layer one, whatever the text.",
    ),
    "random_topk": Rule(
        "",
        (r"s_i = \text{a random number in } [0, 1)",),
        (r"k = \lceil \mathrm{keep} \cdot n / c \rceil", HIGHEST),
        "The seed, the layer and the token's place decide the number, so that the same text always loses the same "
        "tokens. A fixed share, `keep`, of the $n$ tokens that are left stays in each layer.",
    ),
    "transkimmer": Rule(
        "Guan et al., ACL 2022",
        (
            r"v_i = \mathrm{LN}(W_1\,\mathrm{LN}(h_i) + b_1)",
            r"u_i = W_2\,\mathrm{GELU}(v_i) + b_2",
            r"s_i = \mathrm{softmax}(u_i)_{\mathrm{keep}}",
        ),
        (r"\text{token } i \text{ is dropped if } s_i < c / 2",),
        "Two small matrices in each layer read the token's state $h_i$. The score is the probability that it is kept.",
    ),
    "trbert": Rule(
        "Ye et al., NAACL 2021",
        (r"s_i = \mathrm{sigmoid}(w \cdot \mathrm{GELU}(W h_i + b_1) + b_2)",),
        (r"\text{token } i \text{ is dropped if } s_i < c / 2",),
        "A small network before layer 1, and one before the layer in the middle, read the token's state $h_i$. The "
        "score is the probability that it is kept. Other layers decide nothing.",
    ),
}


def term(name: str, shown: str | None = None) -> str:
    """HTML: the word, which says what it means under the mouse, a finger or the keyboard's focus."""
    meaning = escape(TERMS[name])
    return (
        f'<button type="button" class="al-term" data-meaning="{meaning}" aria-description="{meaning}">'
        f"{escape(shown or name)}</button>"
    )

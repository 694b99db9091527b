"""How each other policy than AdapLeR scores a token, and how high a score has to be: what How it works says of its
checkpoints. docs/explanation/policies.md has more, as how each of them is trained."""

from __future__ import annotations

from dataclasses import dataclass

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
        (r"s_i = \mathrm{sigmoid}(w \cdot \mathrm{GELU}(W h_i + b) + a)",),
        (r"\text{token } i \text{ is dropped if } s_i < c / 2",),
        "A small network before layer 1, and one before the layer in the middle, read the token's state $h_i$. The "
        "score is the probability that it is kept. Other layers decide nothing.",
    ),
}

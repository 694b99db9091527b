"""Scores of the model's own removal policy, and the two baselines: `cp`, `cp_carried`, `policy`; `random`, `position`.

B batch, L layers, N padded length
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from adapler.errors import ArgumentError
from adapler.policies import ContributionPolicy
from analysis.scores.base import Batch, LayerScores, adapler_pass, normalise, scoring_method


@scoring_method("cp", needs="adapler", reads="threshold_scale")
def cp(model: Any, batch: Batch) -> LayerScores:
    """AdapLeR CP: contribution scores, by AdapLeR's predictor of layer l, of each token that is still there.

    Formula: score_i^l = S~_i^l = softmax over the tokens present of CP_l(h_i^l); 0 once a token is dropped.
    Layer: in the layer. The tokens present in layer 0 are all real ones, in layer l those that entered layer l - 1.
    Cost: 1 AdapLeR forward.
    Misleads: 0 means "no longer computed", not "least of all": ties at 0 decide the rankings of later layers
        (`cp_carried` ranks them). FPR at 1/n depends on which n: the input's, or the tokens present, which the
        thresholds use. The predictors are trained to imitate saliency; they do not read the prediction.
    Reference: Modarressi, Mohebbi and Pilehvar (2022), AdapLeR, https://aclanthology.org/2022.acl-long.1
    """
    if model.config.policy != ContributionPolicy.name:
        raise ArgumentError(f"method 'cp': this model's policy is {model.config.policy!r}; its scores are 'policy'")
    output = adapler_pass(model, batch)
    real = batch.attention_mask.bool()[:, None, :]  # (B, 1, N)
    present = torch.cat([real, output.retention_mask[:, :-1].bool()], dim=1)  # (B, L, N)
    return LayerScores(output.contribution_scores.float() * real, present)


@scoring_method("cp_carried", needs="adapler", reads="threshold_scale")
def cp_carried(model: Any, batch: Batch) -> LayerScores:
    """AdapLeR CP, carried: contribution scores in which a dropped token keeps its last share.

    Formula: c_i^0 = S~_i^0; for tokens present in layer l: c_i^l = S~_i^l * (1 - sum over dropped j of c_j^(l-1)); for
        dropped ones: c_i^l = c_i^(l-1). S~ is the softmax over the tokens present, as in `cp`.
    Layer: in the layer. One distribution over the input's tokens at every layer (stick-breaking).
    Cost: 1 AdapLeR forward, shared with `cp`.
    Misleads: shares of tokens that were dropped in different layers come from different predictors. Selection at 1/n
        is that of the input's tokens, not the thresholds' n; the paper's own selection is that of `cp`.
    Reference: none. The scores are those of Modarressi, Mohebbi and Pilehvar (2022), AdapLeR; carrying them is ours.
    """
    own = cp(model, batch)
    layers = [own.scores[:, 0]]
    for scores, present in zip(own.scores.unbind(1)[1:], own.present.unbind(1)[1:], strict=True):
        kept = layers[-1].masked_fill(present, 0)  # (B, N)
        layers.append(kept + scores * (1 - kept.sum(-1, keepdim=True)))
    return LayerScores(normalise(torch.stack(layers, dim=1), batch.attention_mask))


@scoring_method("policy", needs="adapler", reads="threshold_scale")
def policy(model: Any, batch: Batch) -> LayerScores:
    """Removal policy: the score by which the model's own policy, whichever it is, judges each token still there.

    Formula: score_i^l = max(s_i^l, 0), divided by its sum over the tokens present; s_i^l is the policy's score in
        layer l: AdapLeR's contribution score, Transkimmer's probability of keeping, LTP's attention received,
        PoWER-BERT's significance. 0 once a token is dropped, and in a layer where the policy does not decide.
    Layer: in the layer. The tokens present are those that the policy judges there: those that entered layer l - 1 for a
        policy that decides before a layer, those that entered layer l for one that decides after its attention.
    Cost: 1 AdapLeR forward.
    Misleads: scores of two policies are not alike: a probability near 1 for every token is shared out evenly here, and
        the policy's threshold, not 1/n, says who stays. Dropped tokens are tied at 0.
    Reference: none
    """
    if model.config.policy == ContributionPolicy.name:
        return cp(model, batch)
    output = adapler_pass(model, batch)
    real = batch.attention_mask.bool()[:, None, :]  # (B, 1, N)
    entered = output.retention_mask.bool()  # (B, L, N)
    before = model.removal_policy.place == "before"
    present = torch.cat([real, entered[:, :-1]], dim=1) if before else entered
    scores = (output.contribution_scores.float() * present).clamp(min=0)
    return LayerScores(normalise(scores, batch.attention_mask), present)


def scores_of_removal(adapler: Any) -> str:
    """The method that shows why a model drops tokens: "cp" with AdapLeR's policy, else "policy"."""
    return "cp" if adapler.config.policy == ContributionPolicy.name else "policy"


@scoring_method("random", reads="seed")
def random(model: Any, batch: Batch) -> LayerScores:
    """Random: uniform draws, new for each layer, as the chance level of every metric.

    Formula: score_i^l = u_i^l / sum over j of u_j^l, u drawn evenly from [0, 1).
    Layer: in the layer.
    Cost: none.
    Misleads: one draw is one sample of chance; over few documents it can lie far from it.
    Reference: none
    """
    n_batch, n_tokens = batch.attention_mask.shape
    n_layers = model.config.num_hidden_layers
    values = torch.zeros(n_batch, n_layers, n_tokens)
    for row, real in enumerate(batch.attention_mask.sum(-1).tolist()):
        generator = np.random.default_rng(batch.entropy(row))
        draws = generator.random((n_layers, real), dtype=np.float32)  # (L, n)
        values[row, :, :real] = torch.from_numpy(draws)
    return LayerScores(normalise(values.to(batch.attention_mask.device), batch.attention_mask))


@scoring_method("position", reads=())
def position(model: Any, batch: Batch) -> LayerScores:
    """Position: the earlier a token, the higher its score (the lead baseline of summarisation).

    Formula: score_i = (n - i) / (n (n + 1) / 2), i from 0, n tokens of the input.
    Layer: at the input.
    Cost: none. Neither the model nor the words are looked at.
    Misleads: it is a baseline, and selects the first half at 1/n; each window of a document starts anew. A method that
        does not beat it may have learnt where people mark, not what.
    Reference: none
    """
    mask = batch.attention_mask  # (B, N)
    values = mask.sum(-1, keepdim=True) - mask.cumsum(-1) + 1
    return LayerScores(normalise(values[:, None], mask))

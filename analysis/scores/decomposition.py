"""A state, or the target, as a sum over tokens: `globenc`, `alti`, `value_zeroing`; `decompx`, `attnlrp`.

The first three take the layers apart:

    a = norm_1(output(attention(h)) + h)          the attention block, post-norm
    h' = norm_2(feed_forward(a) + a)              the feed-forward block

    a = output(attention(norm_1(h))) + h          the same, pre-norm
    h' = feed_forward(norm_2(a)) + a

Post-norm layers laid out as in BERT (RoBERTa, ELECTRA, XLM-R, CamemBERT, ...), DistilBERT or MPNet, and pre-norm layers
as in ModernBERT.

B batch, N padded length, H heads, d head size, D = H * d
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from adapler.backbones.decomposition import eager_forward
from adapler.backbones.families import Target
from adapler.errors import ArgumentError
from adapler.inference import working_copy
from analysis.scores.attention import roll_out
from analysis.scores.base import (
    Batch,
    LayerScores,
    detached_pass,
    full_precision,
    normalise,
    scoring_method,
    share_logits,
)
from analysis.scores.inputs import Sign, reduced, with_gap

_ENTRIES = 1 << 24  # numbers of one block of (documents, rows, tokens, width) in `alti`
_UNLIKE = 0.05  # of the mixed values' length: what rounding to bfloat16 changes is a tenth of that
# value, output projection, the two norms
_PATHS = {
    "bert": ("attention.self.value", "attention.output.dense", "attention.output.LayerNorm", "output.LayerNorm"),
    "distilbert": ("attention.v_lin", "attention.out_lin", "sa_layer_norm", "output_layer_norm"),
    "mpnet": ("attention.attn.v", "attention.attn.o", "attention.LayerNorm", "output.LayerNorm"),
    "modernbert": ("attn.Wqkv", "attn.Wo", "attn_norm", "mlp_norm"),
}


@dataclass(frozen=True, eq=False)
class LayerParts:
    """One layer's projections of values and of the attention's output (D, D), and the layer norms of its two blocks."""

    kind: str
    layer: Any
    value: nn.Linear
    output: nn.Linear
    norm_1: Any  # a layer norm; an Identity in the first layer of ModernBERT
    norm_2: nn.LayerNorm

    def values(self, states: Tensor) -> Tensor:
        """The attention's value vectors (..., D), of tokens whose states are (..., D)."""
        if self.kind != "modernbert":
            return self.value(states)
        together = self.value(self.norm_1(states))  # (..., 3 D): query, key and value
        return together[..., -states.shape[-1] :]

    def projection(self, width: int) -> Tensor:
        """The matrix (D, width) of `output`: of all but a plain dense layer what it makes of unit vectors, since an
        adapter that is not merged (LoRA) has the weight without what it adds, and an int8 layer none to read."""
        if type(self.output) is nn.Linear:
            return self.output.weight
        device = next((one.device for one in self.layer.parameters()), None)
        made = self.output(torch.cat([torch.zeros(1, width), torch.eye(width)]).to(device))  # (1 + width, D)
        return (made[1:] - made[:1]).T

    def finish(self, context: Tensor, residual: Tensor) -> Tensor:
        """The layer's output for mixed values `context` (..., D) of tokens whose states are `residual` (..., D)."""
        attended = self.output(context) + residual
        if self.kind == "modernbert":
            return attended + self.layer.mlp(self.norm_2(attended))
        attended = self.norm_1(attended)
        if self.kind == "distilbert":
            return self.norm_2(self.layer.ffn(attended) + attended)
        return self.layer.output(self.layer.intermediate(attended), attended)


def layer_parts(model: Any) -> list[LayerParts]:
    """The parts of every encoder layer, first layer first; ArgumentError when they are laid out otherwise."""
    for stack in model.modules():
        if not isinstance(stack, nn.ModuleList) or len(stack) != model.config.num_hidden_layers:
            continue
        for kind, paths in _PATHS.items():
            try:
                parts = [LayerParts(kind, one, *(one.get_submodule(path) for path in paths)) for one in stack]  # type: ignore[arg-type]
            except AttributeError:
                continue
            return parts
    known = "BERT, DistilBERT, MPNet or ModernBERT"
    raise ArgumentError(f"model: the layers of {type(model).__name__} are not laid out as in {known}")


def _by_layer(
    method: str, model: Any, batch: Batch, compute: Callable[[LayerParts, Tensor, Tensor], Tensor]
) -> list[Tensor]:
    """compute(parts, states (B, N, D), attention (B, H, N, N)) of every layer, in float32.

    Raises ArgumentError for norms before the blocks where the method is defined for norms after the residuals, and for
    layers that do not mix their values by the weights alone (ConvBERT and Nystromformer add a convolution): seen where
    the first text's [CLS] enters the output projection.
    """
    twin = working_copy(model)
    parts = layer_parts(twin)
    if method != "value_zeroing" and parts[0].kind == "modernbert":
        kind = model.config.model_type
        raise ArgumentError(f"model: {method} is not defined for norms before the blocks, as {kind!r} has them")
    mixed: list[Tensor] = []
    results = []
    with torch.no_grad():
        with ExitStack() as hooks:
            for one in {part.output for part in parts}:  # one that all layers share is called once a layer
                hooks.enter_context(one.register_forward_pre_hook(lambda _, given: mixed.append(given[0][0, 0])))
            output = eager_forward(twin, batch.model_inputs(), output_hidden_states=True)
        with full_precision(batch):
            for layer, (part, found) in enumerate(zip(parts, mixed, strict=True)):
                given = (output.hidden_states[layer], output.attentions[layer])  # in bfloat16 under autocast
                states, attention = (one.float() if one.dtype == torch.bfloat16 else one for one in given)
                alpha, values = attention[0, :, 0], part.values(states[:1])[0]  # (H, N), (N, D)
                expected = torch.einsum("hn,nhd->hd", alpha, values.view(len(values), len(alpha), -1)).flatten()
                if expected.shape != found.shape or (expected - found).norm() > _UNLIKE * found.norm():
                    said = "does not mix its values by the attention weights that it returns"
                    raise ArgumentError(f"model: layer {layer} of {type(twin).__name__} {said}")
                results.append(compute(part, states, attention).to(batch.input_ids.device))
    share_logits(model, batch, output.logits)
    return results


@scoring_method("globenc", needs="attention", reads=())
def globenc(model: Any, batch: Batch) -> LayerScores:
    """GlobEnc: norms of what each token gives to each other token in a layer, rolled out from the input.

    Formula: N_ij = || g2_i( g1_i( sum_h alpha^h_ij f^h(x_j) + [i = j] x_i ) ) ||, rows divided by their sum, where
        f^h(x) = (x W_V^h + b_V^h) W_O^h and g_i(u) = gamma * (u - mean(u)) / s_i are the layer norms;
        score^l = e_CLS^T N^l ... N^0. The residual is in N already: no identity is added.
    Layer: from the input to the layer. Layer L - 1 has the whole network's map.
    Cost: 1 forward, with the slower eager attention, and H^2 numbers a token and layer.
    Misleads: the feed-forward network is left out, as in the paper; it does not know the class. Only for layers with
        norms after the residuals, laid out as in BERT, DistilBERT or MPNet.
    Reference: Modarressi, Fayyaz, Yaghoobzadeh and Pilehvar (2022), GlobEnc,
        https://aclanthology.org/2022.naacl-main.19
    """
    return LayerScores(normalise(roll_out(_by_layer("globenc", model, batch, norm_map)), batch.attention_mask))


def norm_map(parts: LayerParts, states: Tensor, attention: Tensor) -> Tensor:
    """N of one layer, (B, N, N), rows sum to 1.

    g2_i . g1_i = M / (s1_i s2_i) with one matrix M = diag(gamma2) C diag(gamma1) C for all i, and the divisors leave
    with the row's normalisation. So with y^h_j = M f^h(x_j), only || sum_h alpha^h_ij y^h_j ||^2 = alpha_ij^T G_j
    alpha_ij is wanted, where G_j holds the inner products of the heads' y_j: H^2 numbers a token, not N x N x D.
    """

    def through_norms(vectors: Tensor) -> Tensor:  # M u for vectors (..., D)
        for norm in (parts.norm_1, parts.norm_2):
            vectors = (vectors - vectors.mean(-1, keepdim=True)) * norm.weight
        return vectors

    n_batch, n_heads, n_tokens, _ = attention.shape
    values = parts.values(states).view(n_batch, n_tokens, n_heads, -1)  # (B, N, H, d)
    projection = parts.projection(n_heads * values.shape[-1]).view(-1, n_heads, values.shape[-1])  # (D, H, d)
    given = through_norms(torch.einsum("bnhd,ohd->bnho", values, projection))  # (B, N, H, D)
    residual = through_norms(states)  # (B, N, D)
    gram = torch.einsum("bnho,bngo->bnhg", given, given)  # (B, N, H, H)
    squared = (torch.einsum("bhij,bjhg->bgij", attention, gram) * attention).sum(1)  # (B, N, N)
    own = attention.diagonal(dim1=-2, dim2=-1)  # (B, H, N)
    crossed = torch.einsum("bhn,bnho,bno->bn", own, given, residual)
    squared.diagonal(dim1=-2, dim2=-1).add_(2 * crossed + residual.square().sum(-1))
    norms = squared.clamp_min(0).sqrt()  # rounding can leave a small negative square
    return norms / norms.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)


@scoring_method("alti", needs="attention", reads=())
def alti(model: Any, batch: Batch) -> LayerScores:
    """ALTI: how much nearer each token's part brings a layer's attention block to its output, rolled out.

    Formula: T_i(x_j) = gamma * C( sum_h alpha^h_ij x_j W_V^h W_O^h + [i = j] x_i ) / s_i, C takes off the mean over
        the width, gamma and s_i are the layer norm's; y_i: the norm's output.
        c_ij = max(0, ||y_i||_1 - ||y_i - T_i(x_j)||_1), rows divided by their sum; score^l = e_CLS^T c^l ... c^0. The
        residual is in T already: no identity is added.
    Layer: from the input to the layer. Layer L - 1 has the whole network's map.
    Cost: 1 forward and n x n x D numbers a layer, worked on in blocks, with the slower eager attention.
    Misleads: as GlobEnc, and for the same models. A part that points away from the output counts 0, however large.
    Reference: Ferrando, Gallego and Costa-jussa (2022), Measuring the Mixing of Contextual Information in the
        Transformer, https://aclanthology.org/2022.emnlp-main.595
    """
    return LayerScores(normalise(roll_out(_by_layer("alti", model, batch, contribution_map)), batch.attention_mask))


def contribution_map(parts: LayerParts, states: Tensor, attention: Tensor) -> Tensor:
    """c of one layer, (B, N, N), rows sum to 1."""
    n_batch, n_heads, n_tokens, _ = attention.shape
    values = parts.values(states)  # (B, N, D)
    mixed = torch.einsum("bhij,bjhd->bihd", attention, values.view(n_batch, n_tokens, n_heads, -1))  # (B, N, H, d)
    attended = parts.output(mixed.flatten(2)) + states  # (B, N, D), before the norm
    outputs = parts.norm_1(attended)
    gamma, eps = parts.norm_1.weight, parts.norm_1.eps
    scale = (attended.var(-1, unbiased=False, keepdim=True) + eps).rsqrt()  # (B, N, 1)
    plain = values - parts.values(torch.zeros_like(states[:1, :1]))  # without the bias
    projection = parts.projection(plain.shape[-1]).view(-1, n_heads, plain.shape[-1] // n_heads)  # (D, H, d)
    given = torch.einsum("bnhd,ohd->bnho", plain.view(n_batch, n_tokens, n_heads, -1), projection)  # (B, N, H, D)
    given = (given - given.mean(-1, keepdim=True)) * gamma
    residual = (states - states.mean(-1, keepdim=True)) * gamma  # (B, N, D)
    size = outputs.abs().sum(-1)  # (B, N)
    rows = []
    step = max(1, _ENTRIES // (n_batch * n_tokens * states.shape[-1]))
    for start in range(0, n_tokens, step):
        block = slice(start, start + step)
        part = torch.einsum("bhij,bjho->bijo", attention[:, :, block], given)  # (B, rows, N, D)
        own = torch.arange(part.shape[1], device=part.device)
        part[:, own, start + own] += residual[:, block]
        part *= scale[:, block, None]
        left = (outputs[:, block, None] - part).abs().sum(-1)  # (B, rows, N)
        rows.append((size[:, block, None] - left).clamp_min(0))
    nearer = torch.cat(rows, dim=1)  # (B, N, N)
    return nearer / nearer.sum(-1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)


@scoring_method("value_zeroing", needs="attention", reads=())
def value_zeroing(model: Any, batch: Batch) -> LayerScores:
    """Value zeroing: cosine distance by which [CLS] moves in layer l when token j's value is zeroed there.

    Formula: score_j^l = 1 - cos( h_CLS^(l+1), h_CLS^(l+1) with the value vector of token j set to 0 in layer l ), in
        float32 whatever the precision of the run. The paper's map has a row for every token; this is that of [CLS].
    Layer: in the layer. Layers below and above are as they are.
    Cost: 2 forwards (each layer's rest once more, for as many variants of [CLS] as there are tokens).
    Misleads: a move is no evidence for the class; where [CLS] hardly moves, shares rest on tiny distances. Only for
        layers laid out as in BERT, DistilBERT, MPNet or ModernBERT.
    Reference: Mohebbi, Zuidema, Chrupala and Alishahi (2023), Quantifying Context Mixing in Transformers,
        https://aclanthology.org/2023.eacl-main.245
    """
    distances = _by_layer("value_zeroing", model, batch, _distances)
    return LayerScores(normalise(torch.stack(distances, dim=1), batch.attention_mask))


def _distances(parts: LayerParts, states: Tensor, attention: Tensor) -> Tensor:
    """(B, N). [CLS] mixes the values once, so that zeroing v_j takes alpha_0j v_j off its mix: N variants of one token
    pass through the rest of the layer, instead of N runs of the layer."""
    n_batch, n_tokens, _ = states.shape
    values = parts.values(states).view(n_batch, n_tokens, attention.shape[1], -1)  # (B, N, H, d)
    shares = attention[:, :, 0].transpose(1, 2)[..., None] * values  # (B, N, H, d), each token's part of the mix
    mixed = shares.sum(1, keepdim=True)  # (B, 1, H, d)
    variants = torch.cat([mixed, mixed - shares], dim=1).flatten(2)  # (B, 1 + N, D), the first is untouched
    directions = normalize(parts.finish(variants, states[:, :1]), dim=-1)
    # 1 - cos is half the squared chord, which does not lose the small distances to rounding as 1 - cos does
    return (directions[:, 1:] - directions[:, :1]).square().sum(-1) / 2


@scoring_method("decompx", needs="gradient", reads=())
def decompx(model: Any, batch: Batch, *, reduction: Sign = "signed", target: Target = "predicted") -> LayerScores:
    """DecompX: the part of the target that each position's state adds, with all non-linear parts held constant.

    Formula: score_i^l = h_i^l . dF/dh_i^l in the network whose attention probabilities, layer-norm deviations and
        ratios f(u) / u of the activations are constants. sum over i of score_i^l + part of the biases = F(x).
    Layer: from the layer to the output. Layer 0 decomposes the target into the tokens' embeddings.
    Cost: 1 forward + backward, for all layers, with the slower eager attention.
    Misleads: what a token does by changing who attends to whom is not in its score, nor is the biases' part
        (`bias_share`). `completeness_gap` is rounding, unless the model has a part that the rules do not know.
    Reference: Modarressi, Fayyaz, Aghazadeh, Yaghoobzadeh and Pilehvar (2023), DecompX,
        https://aclanthology.org/2023.acl-long.149, without its rule for biases ("NoBias"); one backward pass gives the
        numbers of its vectors. A product of two states (a gate) is not in the paper: here each has half of it.
    """
    found = detached_pass(model, batch, target, softmax=False)
    total = found.relevance.sum(-1) + found.bias  # (B, L)
    scores = with_gap(reduced(found.relevance, batch, reduction), total, found.value[:, None].expand_as(total))
    shares = found.bias.abs() / (found.relevance.abs().sum(-1) + found.bias.abs()).clamp_min(1e-30)
    return replace(scores, diagnostics={**scores.diagnostics, "bias_share": shares})


@scoring_method("attnlrp", needs="gradient", reads=())
def attnlrp(model: Any, batch: Batch, *, reduction: Sign = "signed", target: Target = "predicted") -> LayerScores:
    """AttnLRP: layer-wise relevance propagation with rules for attention, as a gradient with changed parts.

    Formula: score_i^l = h_i^l . dF/dh_i^l, where the ratios f(u) / u of the activations and the layer-norm deviations
        are constants, the softmax passes its ordinary gradient on, and a product of two states (query times key,
        attention times value) passes half of the gradient to each. Each rule has epsilon 0.
    Layer: from the layer to the output.
    Cost: 1 forward + backward, for all layers, with the slower eager attention.
    Misleads: the halves at products make scores of different layers differ in size. They do not add up to the target:
        softmax and biases keep a part. The authors say that the method is patented, free for personal and scientific
        use; this is written from the paper's equations: ask them before using it in a product.
    Reference: Achtibat, Hatefi, Dreyer, Jain, Wiegand, Lapuschkin and Samek (2024), AttnLRP,
        https://arxiv.org/abs/2402.05602
    """
    return reduced(detached_pass(model, batch, target, softmax=True).relevance, batch, reduction)

"""A Contribution Predictor that sees the text around a token (ours, not the paper's).

Dimensions: B sequences, T tokens of a packed row, D hidden size, H hidden units, K neighbours.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad
from transformers import initialization as init
from transformers.activations import ACT2FN

from adapler.backbones.pieces import joined, pieces
from adapler.model.predictors.mlp import ContributionPredictor, ExactLinear
from adapler.model.predictors.registry import Cost, Predictor, predictor
from adapler.model.predictors.row import PackedRow, exact_dtype

NEIGHBOURS = (-2, -1, 1, 2)  # distances in the input; a convolution of width 5 together with the token itself


@predictor("contextual")
class ContextualPredictor(Predictor):
    """The perceptron of the paper, whose hidden units also get the mean of the present tokens and the near neighbours.

        u_i     = W h_i + b                                                      H units
        z_i     = u_i + M (sum_j m_j h_j / sum_j m_j) + sum_d C_d m_(i+d) u_(i+d)    d = -2, -1, 1, 2
        score_i = w . act(z_i) + c

    m is a token's presence: 1 where it is there in full, 0 where it was dropped or where the text ends, between them in
    soft removal. A neighbour is one in the input: tokens that were dropped leave a gap, and nobody moves into it. So
    soft removal has hard removal as its limit, and both are the same where nothing is dropped.

    M and C start at 0, where it is the paper's predictor. In layer 0 that one sees a word without its sentence.
    """

    def __init__(self, hidden_size: int, *, contribution_hidden_size: int = 32, activation: str = "gelu") -> None:
        super().__init__(hidden_size)
        units = contribution_hidden_size
        self.dense = ExactLinear(hidden_size, units)
        self.mean = ExactLinear(hidden_size, units, bias=False)
        self.near = ExactLinear(len(NEIGHBOURS) * units, units, bias=False)
        self.activation = ACT2FN[activation]
        self.score = ExactLinear(units, 1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the first layer's weights, set all others to 0, those of the context too."""
        init.xavier_uniform_(self.dense.weight)
        for parameter in (self.dense.bias, self.mean.weight, self.near.weight, self.score.weight, self.score.bias):
            init.zeros_(parameter)

    def forward(self, hidden: Tensor, row: PackedRow | None = None) -> Tensor:
        """Scores before the softmax: (T, D) -> (T,). Without a row the states are those of one whole text."""
        row = PackedRow.of_one_text(hidden) if row is None else row
        units, whole = self._read(hidden, row)  # (T, H), (B, H)
        # Where there is no neighbour, the index is that of a row of zeros.
        around = pad(row.weighted(units), (0, 0, 0, 1))  # (T + 1, H)
        near = row.neighbours(NEIGHBOURS)  # (T, K)
        # `index_select` takes rows in half the time of an index, and its gradient in a tenth of `embedding`'s.
        neighbours = around.index_select(0, near.flatten()).view(-1, near.shape[1] * around.shape[1])  # (T, K H)
        seen = units + row.segments.spread(whole) + self.near(neighbours)  # (T, H)
        scores: Tensor = self.score(self.activation(seen)).squeeze(-1)  # (T,)
        return scores

    def _read(self, hidden: Tensor, row: PackedRow) -> tuple[Tensor, Tensor]:
        """What depends on the states: u (T, H) of each token, and (B, H) of each text's mean.

        Each piece is converted once, and read twice while it is in the cache.
        """
        units, means = [], row.means(hidden)
        for part in pieces(hidden):
            exact = part.to(exact_dtype(part))  # (t, D)
            units.append(self.dense(exact))
            means.add(exact)
        return joined(units), self.mean(means.mean())

    @staticmethod
    def cost(hidden_size: int, contribution_hidden_size: int) -> Cost:
        alone = ContributionPredictor.cost(hidden_size, contribution_hidden_size)
        near = 2 * len(NEIGHBOURS) * contribution_hidden_size**2
        return Cost(token=alone.token + near, sequence=2 * hidden_size * contribution_hidden_size)

"""The predictor that sees the text around a token, in numbers worked out by hand and against a plain loop."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from adapler.backbones import attention
from adapler.backbones.attention import Segments
from adapler.contribution import ContextualPredictor, ContributionPredictor, PackedRow
from tests.conftest import LAYERS, random_batch, tiny_adapler


def row_of(lengths: list[int], place: list[int], presence: list[float] | None = None) -> PackedRow:
    weights = None if presence is None else torch.tensor(presence)
    return PackedRow(Segments(torch.tensor(lengths)), torch.tensor(place), weights)


def counting() -> ContextualPredictor:
    """D = H = 1, relu: score = h + 100 mean + 1000 h(-2) + 2000 h(-1) + 3000 h(+1) + 4000 h(+2)."""
    made = ContextualPredictor(1, contribution_hidden_size=1, activation="relu")
    with torch.no_grad():
        made.dense.weight.fill_(1.0)
        made.mean.weight.fill_(100.0)
        made.near.weight.copy_(torch.tensor([[1000.0, 2000.0, 3000.0, 4000.0]]))
        made.score.weight.fill_(1.0)
    return made


@torch.no_grad()
def test_by_hand() -> None:
    states = torch.tensor([[1.0], [2.0], [4.0], [5.0], [7.0]])
    # two texts, 1 2 4 and 5 7, one after the other: no neighbour across the border
    scores = counting()(states, row_of([3, 2], [0, 1, 2, 3, 4]))
    first = [1 + 3000 * 2 + 4000 * 4, 2 + 2000 * 1 + 3000 * 4, 4 + 1000 * 1 + 2000 * 2]
    second = [5 + 3000 * 7, 7 + 2000 * 5]
    expected = torch.tensor([x + 100 * 7 / 3 for x in first] + [x + 100 * 6 for x in second])
    assert_close(scores, expected)


@torch.no_grad()
def test_a_dropped_token_leaves_a_gap() -> None:
    # 1 _ 4 _ _ 7: the second 4 is two places after the first token; 7 is three away from it, too far
    scores = counting()(torch.tensor([[1.0], [4.0], [7.0]]), row_of([3], [0, 2, 5]))
    assert_close(scores, torch.tensor([1 + 4000.0 * 4, 4 + 1000.0 * 1, 7.0]) + 100 * 4)


@torch.no_grad()
def test_presence_weighs_neighbours_and_mean() -> None:
    scores = counting()(torch.tensor([[1.0], [2.0], [4.0]]), row_of([3], [0, 1, 2], [1.0, 0.5, 0.25]))
    mean = 100 * (1 + 1 + 1) / 1.75
    expected = [1 + 3000 * 0.5 * 2 + 4000 * 0.25 * 4, 2 + 2000 * 1 + 3000 * 0.25 * 4, 4 + 1000 + 2000 * 0.5 * 2]
    assert_close(scores, torch.tensor(expected) + mean)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sets(st.integers(1, 12), max_size=8), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_neighbours_equal_a_plain_search(kept: list[set[int]], random: object) -> None:
    """Any tokens dropped, sequences in any order: the place counts, not where a sequence stands in the row."""
    order = list(range(len(kept)))
    random.shuffle(order)  # type: ignore[attr-defined]
    cells = [(b, column) for b in order for column in sorted({0} | kept[b])]  # [CLS] is always there
    row = row_of([len({0} | kept[b]) for b in order], [13 * b + column for b, column in cells])
    distances = (-3, -2, -1, 1, 2)
    found = row.neighbours(distances)
    for token, (b, column) in enumerate(cells):
        expected = [cells.index((b, column + d)) if (b, column + d) in cells else len(cells) for d in distances]
        assert found[token].tolist() == expected


def test_neighbours_are_looked_for_once() -> None:
    """Layers that drop nothing share a row."""
    row = row_of([3, 2], [0, 1, 2, 3, 4])
    assert row.neighbours((-1, 1)) is row.neighbours([-1, 1])
    assert row.neighbours((1,)).tolist() == [[1], [2], [5], [4], [5]]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.booleans(), min_size=1, max_size=8), min_size=1, max_size=4), st.booleans())
def test_neighbours_of_the_tokens_that_are_left(stays: list[list[bool]], turned: bool) -> None:
    """A row that was selected from another one knows what a search would find, in another order too."""
    sizes = [len(one) for one in stays]
    row = row_of(sizes, list(range(sum(sizes))))
    row.neighbours((-2, -1, 1, 2))
    kept = [
        [sum(sizes[:b]) + at for at, stay in enumerate(one) if stay or at == 0]  # [CLS] is always there
        for b, one in enumerate(stays)
    ]
    kept = kept[::-1] if turned else kept
    index = torch.tensor([token for text in kept for token in text])
    left = row.select(index, Segments(torch.tensor([len(text) for text in kept])))
    again = row_of([len(text) for text in kept], left.place.tolist())
    assert torch.equal(left.neighbours((-2, -1, 1, 2)), again.neighbours((-2, -1, 1, 2)))
    assert left.neighbours((3,)).shape == (len(index), 1), "what was not asked before is looked for"


@pytest.mark.parametrize("rows", [1, 4, 100])
def test_pieces_change_nothing(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without gradients a CPU reads a few tokens at a time, across the borders of the texts."""
    torch.manual_seed(0)
    made = ContextualPredictor(6, contribution_hidden_size=4)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter)
    states, row = torch.randn(11, 6), row_of([7, 1, 3], [0, 1, 2, 4, 5, 9, 10, 20, 30, 31, 33])
    whole = made(states, row)
    monkeypatch.setattr(attention, "ROWS", rows)
    with torch.no_grad():
        assert_close(made(states, row), whole.detach(), atol=1e-5, rtol=1e-5)


def test_it_starts_where_the_perceptron_starts() -> None:
    torch.manual_seed(0)
    alone = ContributionPredictor(6, contribution_hidden_size=4)
    torch.manual_seed(0)
    made = ContextualPredictor(6, contribution_hidden_size=4)
    made.reset_parameters()  # as transformers does; draws anew
    made.load_state_dict(
        alone.state_dict() | {name: made.state_dict()[name] for name in ("mean.weight", "near.weight")}
    )
    with torch.no_grad():
        for predictor in (alone, made):
            predictor.score.weight.fill_(1.0)
    states = torch.randn(5, 6)
    row = row_of([5], list(range(5)))
    assert torch.equal(made(states, row), alone(states))
    made(states, row).sum().backward()
    assert all(bool(p.grad.abs().sum() > 0) for p in made.parameters()), "what starts at 0 does not stay there"


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_it_scores_in_float32_whatever_it_is_stored_in(dtype: torch.dtype) -> None:
    model = tiny_adapler(predictor="contextual").contribution_predictors[0]
    states = torch.randn(5, 16).to(dtype)
    row = row_of([5], list(range(5)))
    plain = model(states.float(), row)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(model(states, row), plain)
    rounded = model.to(dtype)(states, row)
    assert rounded.dtype == torch.float32
    assert_close(rounded, model.float()(states.float(), row))


def test_nothing_dropped_is_the_same_in_both_modes() -> None:
    model, batch = tiny_adapler(predictor="contextual"), random_batch([9, 4, 1])
    with torch.no_grad():
        hard = model(**batch, removal="hard", threshold_scale=0.0)
        soft = model(**batch, removal="soft", threshold_scale=0.0, slope=1e6)
    assert_close(soft.contribution_scores[:, 0], hard.contribution_scores[:, 0], atol=1e-7, rtol=0)
    assert_close(soft.contribution_scores, hard.contribution_scores, atol=1e-5, rtol=0)


def test_every_matrix_of_every_layer_is_trained() -> None:
    model, batch = tiny_adapler(predictor="contextual"), random_batch([9, 5])
    out = model(**batch, labels=torch.tensor([0, 1]), removal="soft", slope=5.0)
    (out.loss - out.log_scores[:, :, 1].sum()).backward()
    trained = [n for n, p in model.named_parameters() if ".mean." in n or ".near." in n]
    assert len(trained) == 2 * LAYERS
    assert all(gradient_of(model, name) > 0 for name in trained)


def gradient_of(model: torch.nn.Module, name: str) -> float:
    gradient: Tensor | None = model.get_parameter(name).grad
    return 0.0 if gradient is None else float(gradient.abs().sum())

"""Figures of one document: which passage is drawn, how tokens are shaded, what is dropped and what is gold."""

from __future__ import annotations

from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from adapler.errors import ArgumentError
from analysis.figures import tokens
from analysis.figures.paper import AMBER, BLUE, FULL_SHADE, GREY, STYLE, VIOLET
from analysis.figures.tokens import (
    DARKEST,
    DocumentScores,
    Level,
    Panel,
    main_method,
    passages_figure,
    plot_bars,
    plot_document,
    present,
    ratios,
    shade,
    token_text,
)
from analysis.report import RationaleReport
from tests.analysis.sample_report import full_report, make_example

LIME = "lime(n_samples=8)"


@pytest.fixture(scope="module")
def report() -> RationaleReport:
    return full_report()


def test_scores_are_multiples_of_the_uniform_one() -> None:
    scores = {"cp": np.array([[0.5, 0.25, 0.25, 0.0], [0.5, 0.5, 0.0, 0.0]]), "m": np.array([[-1.0, 3.0, 0.0, 0.0]])}
    retention = np.array([[True, True, False, False]] * 2)
    document = DocumentScores("x", ("a", "b", "c", "d"), np.arange(4), np.zeros(4), scores, retention)
    # layer 0 shares out among 4 tokens, layer 1 among the 2 that entered layer 0
    np.testing.assert_allclose(ratios(document, "cp"), [[2, 1, 1, 0], [1, 1, 0, 0]])
    np.testing.assert_allclose(ratios(document, "m"), [[-1, 3, 0, 0]])
    assert (shade(0), shade(8), shade(99)) == (0, 1, 1)
    assert main_method(document) == "cp" and present(document, "m") is None
    saved = replace(document, scores={"cp": np.ones((2, 4))})  # scores of dropped tokens: not the model's own
    assert present(saved, "cp") is None


@pytest.mark.parametrize(
    ("token", "text"), [("##ing", "ing"), ("\u0120film", "film"), ("##", "##"), ("a\x07", "a[U+0007]")]
)
def test_text_of_a_wordpiece(token: str, text: str) -> None:
    assert token_text(token) == text


def test_a_document_as_json_is_the_same() -> None:
    example = DocumentScores(
        "x", ("a", "b"), np.arange(2), np.zeros(2), {"cp": np.array([[0.1, 1 / 3]], dtype=np.float32)}
    )
    assert example.to_dict()["scores"]["cp"] == [[0.1, 0.33333334]], "the fewest digits of a float32"
    assert np.array_equal(DocumentScores.from_dict(example.to_dict()).scores["cp"], example.scores["cp"])


def long_document(n_words: int = 300, rationale: range = range(200, 206)) -> DocumentScores:
    pieces = ("[CLS]", *("." if i % 10 == 9 else f"word{i}" for i in range(n_words)), "[SEP]")
    words = np.array([-1, *range(n_words), -1])
    scores = {"cp": np.full((4, len(pieces)), 1 / len(pieces))}
    return DocumentScores(
        "long", pieces, words, np.isin(words, list(rationale)), scores, np.ones((4, len(pieces)), dtype=bool)
    )


def test_the_passage_shows_the_rationale_and_begins_with_a_sentence() -> None:
    document = long_document()
    placed = tokens.passage(document, width=400, n_lines=2)
    shown = [one.token for one in placed]
    assert document.rationale[shown].sum() == 6 and shown == list(range(shown[0], shown[-1] + 1))
    assert document.tokens[shown[0] - 1] == "." and {one.line for one in placed} == {0, 1}
    assert all(0 <= one.x and one.x + one.width <= 400 for one in placed)
    begun = tokens.passage(document, width=400, n_lines=2, start=57)
    assert document.tokens[begun[0].token] == "word57"
    short = long_document(40, rationale=range(30, 34))
    assert [one.token for one in tokens.passage(short, width=400, n_lines=30)] == list(range(1, 41)), "it fits"
    with pytest.raises(ArgumentError, match="no token of the text to draw"):
        tokens.passage(replace(make_example(), words=np.full(10, -1)), width=400, n_lines=2)


def test_words_are_not_split_between_lines_unless_they_are_wider() -> None:
    words = np.repeat(np.arange(20), 3)
    document = DocumentScores("x", ("un", "##for", "##gettable") * 20, words, np.zeros(60), {"m": np.ones((1, 60))})
    lines_of: dict[int, set[int]] = {}
    for one in tokens.passage(document, width=200, n_lines=3):
        lines_of.setdefault(words[one.token], set()).add(one.line)
    assert all(len(found) == 1 for found in lines_of.values()) and len(lines_of) > 6


@pytest.mark.parametrize("pieces", [("zz",) * 200, ("z" * 500,)])
def test_a_word_wider_than_a_line_stays_within_the_figure(pieces: tuple[str, ...]) -> None:
    words = np.array([-1, *[0] * len(pieces), -1])
    scores = {"cp": np.full((1, len(words)), 1 / len(words))}
    document = DocumentScores(
        "x", ("[CLS]", *pieces, "[SEP]"), words, words == 1, scores, np.ones((1, len(words)), dtype=bool)
    )
    figure = Figure(figsize=(3, 1), dpi=300)
    with matplotlib.rc_context(STYLE):
        plot_document(Panel(document, "cp"), ax := figure.add_axes((0, 0, 1, 1)), n_lines=3)
        figure.draw_without_rendering()
        drawn = [text for text in ax.texts if text.get_text().startswith("z")]
        assert all(text.get_window_extent().x1 <= figure.bbox.x1 for text in drawn)


def test_a_document_shows_what_is_dropped_and_what_is_gold(report: RationaleReport) -> None:
    (ax,) = report.figure("document").axes
    shown = [text for text in ax.texts if text.get_text() == "forgettable"]
    assert [text.get_color() for text in shown] == ["black", "black", GREY, GREY], "dropped at layer 2"
    gold = next(c for c in ax.collections if isinstance(c, LineCollection))
    assert len(gold.get_segments()) == 3 * 4, "un, forgettable, film at each layer"
    assert np.allclose(gold.get_colors(), to_rgba(BLUE))
    assert {"Layer 0", "9 tokens", "<b>x</b>", "$y$"} <= {text.get_text() for text in ax.texts}
    assert "[CLS]" not in {text.get_text() for text in ax.texts}


def test_shades_of_a_text(report: RationaleReport) -> None:
    (ax,) = report.figure("document", layers=(0,)).axes
    shades = next(c for c in ax.collections if isinstance(c, PatchCollection))
    row = ratios(report.examples[0], "cp")[0]
    expected = [DARKEST * shade(row[token]) for token in range(2, 9)]  # all but special tokens and the one dropped here
    np.testing.assert_allclose(shades.get_facecolors()[:, 3], expected)
    boxes = [path.get_extents() for path in shades.get_paths()]
    assert all(right.x0 >= left.x1 - 1e-6 for left, right in zip(boxes, boxes[1:], strict=False)), "they meet at most"


def test_the_key_says_what_is_there(report: RationaleReport) -> None:
    plain, keyed = report.figure("document"), report.figure("document", key=True)
    added = [text.get_text() for text in keyed.axes[0].texts[len(plain.axes[0].texts) :]]
    assert added == ["Score", "1/n", "3/n", "8/n", "dropped", "human rationale"]
    assert keyed.get_figheight() > plain.get_figheight()
    signed = passages_figure([Panel(report.examples[0], LIME)], key=True)
    assert "−3/n" in [text.get_text() for text in signed.axes[0].texts]


def test_the_heat_map_is_blank_where_a_token_is_gone_and_has_two_colours_for_two_signs(report: RationaleReport) -> None:
    figure = report.figure("heatmap", methods=("cp", LIME))
    first, second = figure.axes[:2]
    image = np.ma.filled(first.images[0].get_array(), np.nan)
    assert image.shape == (4, 10) and np.isnan(image).sum(axis=1).tolist() == [0, 1, 2, 3]
    marks = [path.get_extents().x0 for path in first.collections[0].get_paths()]
    assert marks == pytest.approx([1.5, 2.5, 3.5]), "un, forgettable, film"
    lime = ratios(report.examples[0], LIME)
    expected = np.sign(lime) * np.log1p(np.minimum(np.abs(lime), FULL_SHADE))
    np.testing.assert_allclose(second.images[0].get_array(), expected)
    assert (lime < 0).any() and second.images[0].get_clim()[0] == -second.images[0].get_clim()[1]
    assert [one.get_text() for one in second.get_yticklabels()] == ["in"]
    unsigned = report.figure("heatmap", methods="cp").axes[0].images[0]
    assert unsigned.get_clim()[0] == 0
    with pytest.raises(ArgumentError, match="has no scores of random"):
        report.figure("heatmap", methods=("random",))


@pytest.mark.parametrize("method", ["cp", LIME])
@pytest.mark.parametrize("n_layers", [1, 4])
def test_the_name_of_a_low_colour_bar_is_whole(method: str, n_layers: int) -> None:
    """In whatever font the machine has: the figure is as high as the name needs."""
    figure = full_report(n_layers).figure("heatmap", methods=(method,))
    with matplotlib.rc_context(STYLE):
        figure.draw_without_rendering()
        name = figure.axes[-1].yaxis.label.get_window_extent()
    assert name.y0 >= 0 and name.y1 <= figure.bbox.y1


def test_few_tokens_are_written_below_the_heat_map(report: RationaleReport) -> None:
    def axis(document: DocumentScores) -> tuple[list[str], set[float], str]:
        ax = tokens.heatmaps_figure(document, ["cp"], titles={}, layerwise={}).axes[0]
        labels = ax.get_xticklabels()
        return [label.get_text() for label in labels], {label.get_rotation() for label in labels}, ax.get_xlabel()

    few = report.examples[0]
    assert axis(few)[0][:4] == ["[CLS]", "a", "un", "forgettable"]
    assert axis(replace(few, tokens=tuple("abcdefghij")))[1] == {0}, "short enough to stand side by side"
    assert axis(long_document(tokens.MOST_TOKENS - 2))[1] == {90}
    assert axis(long_document(tokens.MOST_TOKENS - 1))[2] == "Token"


def test_bars_say_sign_and_fate(report: RationaleReport) -> None:
    figure = Figure()
    first, second = figure.subplots(2)
    document = report.examples[0]
    plot_bars(document, "cp", 2, first, levels=[Level(0.1, "1/n", dashed=True), Level(0.05, "threshold")])
    kept = document.retention
    assert kept is not None
    assert [bar.get_facecolor()[3] > 0 for bar in first.patches] == kept[2].tolist(), "hollow where it is dropped"
    assert first.get_lines()[0].get_xdata().tolist() == np.flatnonzero(~kept[1]).tolist(), "a cross: dropped before"
    assert {text.get_text(): text.xy[1] for text in first.texts} == {"1/n": 0.1, "threshold": 0.05}
    plot_bars(document, LIME, 0, second)
    signs = [bar.get_facecolor() for bar in second.patches]
    assert signs == [to_rgba(AMBER if score >= 0 else VIOLET) for score in document.scores[LIME][0]]

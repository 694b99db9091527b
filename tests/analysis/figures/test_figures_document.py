"""Figures of one document: which passage is drawn, how tokens are shaded, what is dropped and what is gold."""

from __future__ import annotations

from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure

from adapler.errors import ArgumentError
from analysis.figures import STYLE, heatmap, passage, plot_document, token_scores
from analysis.results.report import DocumentScores
from tests.analysis.sample_report import full_report, make_example


def test_scores_are_multiples_of_the_uniform_one() -> None:
    scores = {"cp": np.array([[0.5, 0.25, 0.25, 0.0], [0.5, 0.5, 0.0, 0.0]]), "m": np.array([[-1.0, 3.0, 0.0, 0.0]])}
    retention = np.array([[True, True, False, False]] * 2)
    document = DocumentScores("x", ("a", "b", "c", "d"), np.arange(4), np.zeros(4), scores, retention)
    # layer 0 shares out among 4 tokens, layer 1 among the 2 that entered layer 0
    np.testing.assert_allclose(token_scores.ratios(document, "cp"), [[2, 1, 1, 0], [1, 1, 0, 0]])
    np.testing.assert_allclose(token_scores.ratios(document, "m"), [[-1, 3, 0, 0]])
    assert (token_scores.shade(0), token_scores.shade(8), token_scores.shade(99)) == (0, 1, 1)


@pytest.mark.parametrize(
    ("token", "text"),
    [("##ing", "ing"), ("\u0120film", "film"), ("\u2581film", "film"), ("##", "##"), ("a\x07", "a[U+0007]")],
)
def test_text_of_a_wordpiece(token: str, text: str) -> None:
    assert token_scores.token_text(token) == text


def long_document(n_words: int = 300, rationale: range = range(200, 206)) -> DocumentScores:
    tokens = ("[CLS]", *("." if i % 10 == 9 else f"word{i}" for i in range(n_words)), "[SEP]")
    words = np.array([-1, *range(n_words), -1])
    scores = {"cp": np.full((4, len(tokens)), 1 / len(tokens))}
    return DocumentScores("long", tokens, words, np.isin(words, list(rationale)), scores, np.ones((4, len(tokens))))


def test_the_passage_shows_the_rationale_and_begins_with_a_sentence() -> None:
    document = long_document()
    placed = passage.excerpt(document, width=400, n_lines=2)
    tokens = [token for token, *_ in placed]
    assert document.rationale[tokens].sum() == 6 and tokens == list(range(tokens[0], tokens[-1] + 1))
    assert document.tokens[tokens[0] - 1] == "."
    assert {one.line for one in placed} == {0, 1}
    assert all(0 <= one.x and one.x + one.width <= 400 for one in placed)
    assert passage.is_cut(document, placed) == (True, True)


def test_a_text_that_fits_is_shown_whole() -> None:
    document = long_document(40, rationale=range(30, 34))
    placed = passage.excerpt(document, width=400, n_lines=30)
    assert [one.token for one in placed] == list(range(1, 41)) and passage.is_cut(document, placed) == (False, False)


@pytest.mark.parametrize(("tokens", "cut"), [(("zz",) * 200, (False, True)), (("z" * 500,), (False, False))])
def test_a_word_wider_than_a_line_stays_within_the_figure(tokens: tuple[str, ...], cut: tuple[bool, bool]) -> None:
    """As a text of a language without white space is, or a web address."""
    words = np.array([-1, *[0] * len(tokens), -1])
    scores = {"cp": np.full((1, len(words)), 1 / len(words))}
    document = DocumentScores("x", ("[CLS]", *tokens, "[SEP]"), words, words == 1, scores, np.ones((1, len(words))))
    figure = Figure(figsize=(3, 1), dpi=STYLE["savefig.dpi"])
    plot_document(document, ax := figure.add_axes((0, 0, 1, 1)), n_lines=3)
    figure.draw_without_rendering()
    drawn = [text for text in ax.texts if text.get_text().startswith("z")]
    assert all(text.get_window_extent().x1 <= figure.bbox.x1 for text in drawn)
    placed = passage.excerpt(document, width=150, n_lines=3)
    assert [one.token for one in placed] == list(range(1, len(placed) + 1)) and passage.is_cut(document, placed) == cut
    assert {one.line for one in placed} == ({0, 1, 2} if cut[1] else {0})
    assert cut[1] or "\N{HORIZONTAL ELLIPSIS}" in drawn[0].get_text()


def test_a_passage_begins_where_it_is_told_to() -> None:
    document = long_document()
    placed = passage.excerpt(document, width=400, n_lines=2, start=57)
    assert document.tokens[placed[0].token] == "word57" and passage.is_cut(document, placed) == (True, True)
    with pytest.raises(ArgumentError, match=r"^start: word 300 is not in document long, whose words are 0 to 299$"):
        passage.excerpt(document, width=400, n_lines=2, start=300)
    with pytest.raises(ArgumentError, match="start: word -1 is not"):
        passage.excerpt(document, width=400, n_lines=2, start=-1)


def test_the_key_says_what_is_there() -> None:
    """Shades from 0 to 8/n; paleness where tokens are dropped, the underline where there is a rationale."""
    report = full_report()
    plain, keyed = report.figure("document"), report.figure("document", key=True)
    added = [text.get_text() for text in keyed.axes[0].texts[len(plain.axes[0].texts) :]]
    assert added == ["Score", "1/n", "3/n", "8/n", "dropped", "human rationale"]
    assert keyed.get_figheight() > plain.get_figheight()
    last = keyed.axes[0].texts[-1]
    assert last.get_position()[1] < keyed.axes[0].get_ylim()[0], "it is inside of the figure"
    signed = replace(report.examples[0], scores={"m": np.array([[-1.0] * len(report.examples[0])])}, retention=None)
    figure = replace(report, examples=(signed,)).figure("document", method="m", key=True)
    assert [text.get_text() for text in figure.axes[0].texts][-5:-1] == ["\N{MINUS SIGN}1/n", "1/n", "3/n", "8/n"]


def test_shades_of_one_words_pieces_meet_without_overlapping() -> None:
    (ax,) = full_report().figure("document").axes
    shades = next(c for c in ax.collections if isinstance(c, matplotlib.collections.PatchCollection))
    boxes = sorted((path.get_extents().y0, path.get_extents().x0, path.get_extents().x1) for path in shades.get_paths())
    for (row, _, right), (next_row, left, _) in zip(boxes, boxes[1:], strict=False):
        assert row != next_row or left >= right - 1e-6


def test_words_are_not_split_between_lines() -> None:
    tokens = ("un", "##for", "##gettable") * 20
    words = np.repeat(np.arange(20), 3)
    document = DocumentScores("x", tokens, words, np.zeros(60), {"m": np.ones((1, 60))})
    lines_of = {}
    for one in passage.layout(document, 0, width=200, n_lines=3):
        lines_of.setdefault(words[one.token], set()).add(one.line)
    assert all(len(found) == 1 for found in lines_of.values()) and len(lines_of) > 6


def test_a_document_shows_what_is_dropped_and_what_is_gold() -> None:
    figure = full_report().figure("document")
    (ax,) = figure.axes
    shown = [text for text in ax.texts if text.get_text() == "forgettable"]
    assert [text.get_color() for text in shown] == ["black", "black", "0.72", "0.72"], "dropped at layer 2"
    gold = next(c for c in ax.collections if isinstance(c, matplotlib.collections.LineCollection))
    assert len(gold.get_segments()) == 3 * 4  # un, forgettable, film at each layer
    assert {"Layer 0", "9 tokens", "<b>x</b>", "$y$"} <= {text.get_text() for text in ax.texts}
    assert "[CLS]" not in {text.get_text() for text in ax.texts}


def test_the_heat_map_is_blank_where_a_token_is_gone() -> None:
    figure = full_report().figure("heatmap", methods=("cp", "lime(n_samples=8)"))
    image = figure.axes[0].images[0].get_array()
    assert image.shape == (4, 10) and np.isnan(np.ma.filled(image, np.nan)).sum(axis=1).tolist() == [0, 1, 2, 3]
    marks = figure.axes[0].collections[0].get_paths()
    assert len(marks) == 3  # un, forgettable, film
    assert figure.axes[1].images[0].get_array().shape == (1, 10)
    assert figure.axes[-1].get_ylabel() == "|Score| / uniform score", "lime's scores have a sign, which is not drawn"
    assert full_report().figure("heatmap", methods=("cp",)).axes[-1].get_ylabel() == "Score / uniform score"


def test_the_heat_map_shows_the_tokens_where_there_are_few() -> None:
    def names(document: DocumentScores) -> tuple[list[str], set[float], str]:
        ax = replace(full_report(), examples=(document,)).figure("heatmap", methods=("cp",)).axes[0]
        labels = ax.get_xticklabels()
        return [label.get_text() for label in labels], {label.get_rotation() for label in labels}, ax.get_xlabel()

    few = make_example()
    written, _, axis = names(few)
    assert written == ["[CLS]", "a", "un", "forgettable", "film", ".", "<b>x</b>", "$y$", written[8], "[SEP]"]
    assert axis == ""
    short = replace(few, tokens=tuple("abcdefghij"))  # in whatever font the machine has
    assert names(short)[1] == {0}, "short enough to stand side by side"
    assert names(long_document(heatmap.MOST_TOKENS - 2))[1] == {90}
    numbers, _, axis = names(long_document(heatmap.MOST_TOKENS - 1))
    assert all(number.lstrip("−").isdigit() for number in numbers) and axis == "Token"


def test_an_example_without_text_or_scores() -> None:
    nothing = replace(make_example(), words=np.full(10, -1))
    with pytest.raises(ArgumentError, match="no token of the text to draw"):
        replace(full_report(), examples=(nothing,)).figure("document")
    with pytest.raises(ArgumentError, match="no scores to draw"):
        replace(full_report(), examples=(replace(make_example(), scores={}),)).figure("document")


@pytest.mark.parametrize("method", ["cp", "lime(n_samples=8)"])
def test_the_name_of_a_low_colour_bar_is_whole(method: str) -> None:
    figure = full_report(1).figure("heatmap", methods=(method,))
    with matplotlib.rc_context(STYLE):
        figure.draw_without_rendering()
        name = figure.axes[-1].yaxis.label.get_window_extent()
    assert name.y0 >= 0 and name.y1 <= figure.bbox.y1
    assert full_report(12).figure("heatmap").get_figheight() == pytest.approx(0.11 * (3 * 10.2 + 4.2) + 0.45)


def test_the_only_layer_of_a_model_is_not_its_input() -> None:
    report = full_report(1)
    first, second = report.figure("heatmap", methods=("cp", "lime(n_samples=8)")).axes[:2]
    assert [ax.get_yticklabels()[0].get_text() for ax in (first, second)] == ["0", "in"]
    for method, name in (("cp", "Layer 0"), ("lime(n_samples=8)", "Input")):
        assert report.figure("document", method=method).axes[0].texts[0].get_text() == name

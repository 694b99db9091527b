"""What is drawn of one text."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.text import Text

from analysis import explain
from analysis.figures.style import STYLE, VENUES
from tests.adapler.policies.policy_models import tiny_policy
from tests.analysis.conftest import BAD, tiny_bert


def test_scores_of_words_are_not_summed_twice(classifier: Any, tiny_tokenizer: Any) -> None:
    e = explain(
        BAD,
        model=classifier,
        tokenizer=tiny_tokenizer,
        methods=[],
        scores={"mine": [1.0, 2, 3, 4, 5, 6, 7, 8]},
        rationale=[3],
    )
    names = ["average_precision", "fpr", "tpr"]
    assert e.metrics(metrics=names, aggregation="sum").equals(e.metrics(metrics=names, aggregation="max"))


def test_words_of_the_rationale_are_bold(reducer: Any, tiny_tokenizer: Any) -> None:
    e = explain(BAD, model=reducer, tokenizer=tiny_tokenizer, methods=["cp"], rationale=[1, 3])
    bold = [label.get_fontweight() == "bold" for label in e.plot(layer=0).axes[-1].get_xticklabels()]
    assert bold == e.document().rationale.tolist() and any(bold) and not all(bold)


def test_a_tip_counts_in_the_tokens_that_are_there(reducer: Any, tiny_tokenizer: Any) -> None:
    e = explain(BAD, model=reducer, tokenizer=tiny_tokenizer, methods=["cp"])
    cp = e.methods["cp"]
    assert cp.n_present[-1] < e.n
    assert f"{cp.scores[-1, 0] * cp.n_present[-1]:.2f}/n" in e._repr_html_().rpartition("Layer 2")[2].split("|")[1]


@pytest.mark.parametrize("name", ["transkimmer", "cls_topk"])
def test_bars_say_what_any_policy_drops(name: str, tiny_tokenizer: Any) -> None:
    e = explain("the film is not good and the plot was dull", model=tiny_policy(name), tokenizer=tiny_tokenizer)
    (policy, *_), (panel, *_) = e.methods.values(), e.plot(layer=2).axes
    assert e.kept is not None and policy.present is not None and not policy.present[2].all()
    assert [bar.get_facecolor()[3] > 0 for bar in panel.patches] == e.kept[2].tolist()
    assert list(panel.lines[1].get_xdata()) == np.flatnonzero(~policy.present[2]).tolist()
    page = e.to_html()
    assert "<s>dropped</s> by the model" in page, "AdapLeR is the name of another policy"
    assert page.count("| dropped here") == int((policy.present & ~e.kept).sum())


def titles_inside(figure: Figure) -> list[str]:
    """The panels' titles, none of which goes beyond the figure."""
    names = [ax.get_title("left") for ax in figure.axes]
    with rc_context(STYLE):
        figure.draw_without_rendering()
        boxes = [text.get_window_extent() for text in figure.findobj(Text) if text.get_text() in names]
    assert all(box.x1 < figure.bbox.x1 and box.y1 <= figure.bbox.y1 for box in boxes)
    return names


def test_a_figure_of_bars_is_as_wide_as_its_titles(classifier: Any, tiny_tokenizer: Any) -> None:
    e = explain(
        ["a", "dull", "film"],
        model=classifier,
        tokenizer=tiny_tokenizer,
        methods=["saliency", "integrated_gradients(n_steps=2)"],
        target="contrast",
    )
    figure = e.plot(layer=0)
    assert VENUES["acl"].column < figure.get_figwidth() < VENUES["acl"].text
    assert titles_inside(figure)[1].startswith("Integrated gradients(n_steps=2), input, target ")


def test_a_title_wider_than_a_page_has_its_target_on_a_second_line(classifier: Any, tiny_tokenizer: Any) -> None:
    classifier.config.id2label = {0: "a label of a good many words, " * 2, 1: "another label of a good many words"}
    options: dict[str, Any] = {"model": classifier, "tokenizer": tiny_tokenizer, "methods": ["saliency"]}
    e = explain(["a", "dull", "film"], target="contrast", scores={"of mine " * 30: [0.1, 0.2, 0.3]}, **options)
    figure = e.plot(layer=0)
    first, mine = titles_inside(figure)
    assert first.startswith("Saliency, layer 0\ntarget a") and figure.get_figwidth() <= VENUES["acl"].text
    assert mine.startswith("of mine of mine") and "…" in mine and mine.endswith(", input"), "too long for a page"


def test_a_web_address_below_bars_leaves_room_for_them() -> None:
    words = ["see", "https://www.imdb.com/title/tt0111161/", "for", "the", "film"]
    figure = explain(words, scores={"mine": [0.1, 0.5, 0.2, 0.1, 0.1]}, methods=[]).plot(layer=0)
    with rc_context(STYLE):
        figure.draw_without_rendering()  # a warning that the layout collapsed is an error here
        (ax,) = figure.axes
        labels = ax.get_xticklabels()
        assert all(label.get_window_extent().y0 >= 0 for label in labels)
        assert ax.get_window_extent().height > 0.5 * figure.dpi
    assert [label.get_text() for label in labels][::2] == ["see", "for", "film"]
    assert labels[1].get_text().startswith("https://") and "…" in labels[1].get_text()


def test_a_web_address_in_a_heat_map_is_cut() -> None:
    words = ["see", "https://www.imdb.com/title/tt0111161/"]
    ax = explain(words, scores={"mine": [0.1, 0.5]}, methods=[]).plot().axes[0]
    assert "…" in ax.get_xticklabels()[1].get_text() and ax.get_xticklabels()[0].get_text() == "see"


def test_the_only_layer_of_a_model_is_not_its_input(tiny_tokenizer: Any) -> None:
    model = tiny_bert()
    model.bert.encoder.layer = model.bert.encoder.layer[:1]
    model.config.num_hidden_layers = 1
    methods = ["saliency", "integrated_gradients(n_steps=2)"]
    for text in (BAD, BAD * 7):  # bars, and the shaded text
        e = explain(text, model=model, tokenizer=tiny_tokenizer, methods=methods)
        heat = e.plot().axes[:2]
        assert [ax.get_yticklabels()[0].get_text() for ax in heat] == ["0", "in"]
    assert [ax.texts[0].get_text() for ax in e.plot(layer=0).axes] == ["Layer 0", "Input"]

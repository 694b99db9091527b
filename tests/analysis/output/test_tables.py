from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from adapler.errors import ArgumentError
from analysis.output import markup as tables_markup
from analysis.output import tables
from analysis.output.eraser_table import eraser_cells
from analysis.output.report import RationaleReport
from analysis.output.tables import main_metrics
from analysis.results import wording
from tests.analysis.sample_report import AT_INPUT, METHODS, full_report, make_report


@pytest.fixture
def report() -> RationaleReport:
    return make_report()


def clear_cut() -> RationaleReport:
    """12 documents; at layer 0 `saliency` is .1 below `cp` on each of them, at layer 1 they are the same."""
    plain = make_report(2)
    documents = tuple(replace(plain.documents[0], id=str(i)) for i in range(12))
    values = np.full((len(METHODS), 2, 12, len(plain.metrics)), 0.5)
    values[METHODS.index("saliency"), 0] = 0.4
    return replace(plain, documents=documents, values=values)


def test_another_policy_is_compared_as_cp_is() -> None:
    """The scores of a model with another removal policy are called `policy`."""
    ours = clear_cut()
    other = replace(ours, methods=tuple("policy" if name == "cp" else name for name in METHODS))
    found = other.comparisons()
    assert set(found["reference"]) == {"policy"}
    assert found["p_holm"].tolist() == ours.comparisons("cp")["p_holm"].tolist()
    differs = {row.method: row.differs for row in tables.rows(other, "average_precision")}
    assert differs["saliency"] == [True, False]
    neither = replace(ours, methods=tuple("own" if name == "cp" else name for name in METHODS))
    assert tables.reference_of(neither) is None
    with pytest.raises(ArgumentError, match="^reference 'cp' is not in the report"):
        neither.comparisons()


def test_a_table_says_what_its_numbers_hang_on(report: RationaleReport) -> None:
    plain = tables.note(report)
    assert "annotators" not in plain and "scale" not in plain
    said = {"threshold_scale": 0.123456, "people": {"rule": "union"}}
    note = tables.note(replace(report, meta=report.meta | said))
    assert note.replace(", annotators union, AdapLeR at threshold scale 0.1235", "") == plain != note
    auto = {"threshold_scale": 1.0, "people": {"rule": "auto"}}
    assert tables.note(replace(report, meta=report.meta | auto)) == plain
    without = make_report(with_adapler=False)
    assert "scale" not in tables.note(replace(without, meta=without.meta | said))
    saved = {"missing": {"cp": 0, "saliency": 3}, "notes": ["a remark"]}
    found = tables.note(replace(report, meta=report.meta | saved))
    assert found == f"{plain} saliency has nothing for 3 of 5 documents. A remark."


def test_latex_is_balanced_and_escaped(report: RationaleReport) -> None:
    text = report.to_latex(metrics=("average_precision", "fpr"))
    assert text.count("{") == text.count("}") and text.count("$") % 2 == 0
    for environment in re.findall(r"\\begin\{(.*?)\}", text):
        assert text.count(rf"\begin{{{environment}}}") == text.count(rf"\end{{{environment}}}") == 1
    assert r"my\_own\_100\%" in text and r"films\_100\%" in text and r"\label{tab:rationales-films-100--test}" in text
    assert not re.search(r"(?<!\\)[%_#]", text)
    rows = [line for line in text.splitlines() if line.startswith("AdapLeR CP")]
    assert len(rows) == 2 and all(row.count("&") == 4 and row.endswith(r"\\") for row in rows)


def test_no_latex_row_starts_with_a_bracket(report: RationaleReport) -> None:
    titled = replace(report, meta=report.meta | {"titles": {"attention": "[CLS] attention"}})
    assert re.search(r"^\{\[\}CLS\{\]\} attention & ", titled.to_latex(), re.MULTILINE)
    assert not re.search(r"\\\\\s*\[", titled.to_latex())


def test_a_table_longer_than_a_page_is_several_in_latex() -> None:
    report = full_report()
    text = report.to_latex()
    blocks, tables = text.count(r"\midrule"), text.split(r"\begin{table*}")[1:]
    assert len(tables) > 1 and all(table.count(r" \\") <= 48 for table in tables)
    labels = re.findall(r"\\label\{(.*?)\}", text)
    assert labels == [labels[0], *(f"{labels[0]}-{number}" for number in range(2, len(tables) + 1))]
    assert text.count(rf"Continues Table~\ref{{{labels[0]}}}.") == len(tables) - 1
    assert all(re.search(r"\\toprule\nLayer & 0 .*\n\\midrule", table) for table in tables)
    alone = [report.to_latex(metrics=[metric]) for metric in main_metrics(report)]
    assert blocks == len(alone) + len(eraser_cells(report)) and all(one.count(r"\begin{table*}") == 1 for one in alone)


def test_letters_that_pdflatex_has_not(report: RationaleReport) -> None:
    titled = replace(report, meta=report.meta | {"titles": {"attention": "α ≥ β, naïve"}})
    text = titled.to_latex(metrics="fpr")
    assert r"$\alpha$ $\geq$ $\beta$, naïve & " in text and text.startswith(r"\begin{table*}")
    titled = replace(report, meta=report.meta | {"titles": {"attention": "внимание 注"}})
    first, *rest = titled.to_latex(metrics="fpr").splitlines()
    assert first == "% pdflatex has not: а в е и м н 注 (XeLaTeX and LuaLaTeX do)"
    assert any(line.startswith("внимание 注 & ") for line in rest)


def test_a_deep_model_gets_two_decimals_in_latex() -> None:
    text = make_report(24).to_latex(metrics=("tpr",))
    assert r"\scriptsize" in text and not re.search(r"\.\d{3}", text.split(r"\caption")[0])
    assert r"\small" in make_report(12).to_latex(metrics=("tpr",))


def test_stars_and_bold_print() -> None:
    report = clear_cut()
    latex = report.to_latex(metrics=("average_precision", "fpr"))
    ap, fpr = [line for line in latex.splitlines() if line.startswith("saliency")]
    assert ap == r"saliency & $.400$\rlap{$^*$} & $\mathbf{.500}$ \\"
    assert fpr == r"saliency & $.400$\rlap{$^*$} & $.500$ \\", "a low FPR alone is not the best"
    assert "* differs from AdapLeR CP at the same layer: $p < .05$" in latex and "Bold: best of a layer." in latex
    assert r"| saliency | .400\* | **.500** |" in report.to_markdown(metrics=("average_precision",))
    assert r"Bold: best of a layer. \* differs from AdapLeR CP" in report.to_markdown(metrics=("average_precision",))
    plain = tables.plain_comparisons(report, ("average_precision",))
    assert re.search(r"^  saliency +\.100\* +\.000$", plain, re.MULTILINE)
    assert re.search(r"^  attention +\.000 +\.000$", plain, re.MULTILINE)
    assert max(map(len, plain.splitlines())) <= 100


def test_no_stars_without_something_to_compare() -> None:
    report = make_report()
    alone = replace(report, methods=("cp",), values=report.values[2:3])
    assert tables.plain_comparisons(alone) == "" == tables.legend(alone)
    assert "Holm-adjusted over the metric's cells, random scores and repeated methods left out." in tables.legend(
        report
    )
    assert "*" not in alone.to_markdown(metrics=("fpr",)).replace("**", "")
    other = replace(report, methods=("attention",), values=report.values[:1])
    assert tables.reference_of(other) is None and "rlap" not in other.to_latex()


def test_random_and_human_are_never_the_best() -> None:
    report = clear_cut()
    values = report.values.copy()
    values[METHODS.index("random")] = 0.9
    row = next(r for r in tables.rows(replace(report, values=values), "average_precision") if r.method == "random")
    assert not any(row.best) and all(row.differs)


def test_a_method_at_the_input_is_marked_as_such() -> None:
    report = full_report()
    value = wording.number(tables.cells(report, "tpr")["human"][0])
    assert rf"Human & \multicolumn{{4}}{{l}}{{${value}$ (input)}} \\" in report.to_latex(metrics=("tpr",))
    assert f"| human | {value} (input) |  |  |  |" in report.to_markdown(metrics=("tpr",))
    assert re.search(rf"^  human +{re.escape(value)}  at the input$", tables.plain(report, ("tpr",)), re.MULTILINE)


def test_main_metrics_leave_out_variants_and_single_bins() -> None:
    both = ("fpr", "tpr", "j", "fpr_present", "tpr_present", "j_present")
    assert tables.main_metrics(full_report()) == ("average_precision", *both), "FPR is shown with both n"
    report = full_report()
    same = report.values.copy()
    for name in ("fpr", "tpr", "j"):
        same[..., report.metrics.index(f"{name}_present")] = same[..., report.metrics.index(name)]
    nothing_dropped = replace(report, values=same)
    assert tables.main_metrics(nothing_dropped) == ("average_precision", "fpr", "tpr", "j"), "each number once"
    report = make_report()
    only = replace(report, metrics=("fpr_content",), values=report.values[..., :1])
    assert tables.main_metrics(only) == ("fpr_content",)


def test_tpr_at_equal_fpr_is_shown_and_has_a_best_method() -> None:
    report = make_report()
    names = ("tpr_at_fpr_5", "tpr_at_fpr_10", "tpr")
    one = replace(report, metrics=names, values=report.values[..., :3])
    assert tables.main_metrics(one) == names and wording.metric_title(names[1]) == "TPR at 10 % FPR"
    assert any(any(row.best) for row in tables.rows(one, "tpr_at_fpr_10"))
    assert not any(any(row.best) for row in tables.rows(one, "tpr"))  # alone it says nothing
    assert "TPR at 10 % FPR" in tables.plain(one)


def test_escape_covers_every_special_character() -> None:
    assert tables_markup.escape(r"a_b 5% \ ~ ^ {#$&}") == (
        r"a\_b 5\% \textbackslash{} \textasciitilde{} \textasciicircum{} \{\#\$\&\}"
    )
    assert tables_markup.escape_markdown("a|b*<c>") == r"a\|b\*\<c>"


def test_markdown(report: RationaleReport) -> None:
    text = report.to_markdown(metrics=("tpr",))
    row = next(line for line in text.splitlines() if line.startswith("| cp"))
    means = tables.cells(report, "tpr")["cp"]
    assert row == "| cp | " + " | ".join(f"{mean:.3f}"[1:] for mean in means) + " |"
    saved = {"missing": {"cp": 1}, "titles": {"cp": "*mine*"}}
    assert r" \*mine\* has nothing for 1 of " in replace(report, meta=report.meta | saved).to_markdown(metrics=("tpr",))


def test_numbers() -> None:
    numbers = [0.2541, -0.031, 1.0, 0.0, -0.0001, float("nan"), None, 12.5]
    assert [wording.number(n) for n in numbers] == [".254", "-.031", "1.000", ".000", ".000", "-", "-", "12.500"]


@pytest.mark.parametrize("n_layers", [1, 6, 12, 24])
def test_plain_tables_fit_a_terminal(n_layers: int) -> None:
    text = tables.plain(make_report(n_layers))
    assert max(len(line) for line in text.splitlines()) <= 100
    assert text.count("chance") == -(-(n_layers + 1) // 13)


def test_titles_of_metrics() -> None:
    assert (
        wording.metric_title("fpr_content")
        == "FPR (selected at 1/n, n = content tokens, scores renormalised over them)"
    )
    assert wording.metric_title("token_f1") == "Token F1" and wording.metric_title("my_own") == "my own"


def test_tables_say_what_a_layer_means() -> None:
    scopes = {"cp": "in the layer", "attention": "in the layer", "saliency": "from the layer to the output"}
    report = replace(make_report(), meta=make_report().meta | {"scopes": scopes})
    said = "attention, AdapLeR CP: in the layer; saliency: from the layer to the output."
    for text in (report.to_markdown(), report.to_latex(), report.to_html(), tables.plain(report)):
        assert said in " ".join(text.split())
    assert tables.scopes(make_report()) == ""


def test_unknown_metric(report: RationaleReport) -> None:
    with pytest.raises(ArgumentError, match="metric 'auc' is not in the report, which has average_precision"):
        report.to_markdown(metrics=("auc",))


def test_a_method_at_the_input_takes_the_bold_print_of_no_layer() -> None:
    report = full_report()
    values = report.values.copy()
    values[report.methods.index(AT_INPUT[0]), 0, [0, 1, 3, 4], 0] = 1.0  # its only row is kept at layer 0
    rows = [row for row in tables.rows(replace(report, values=values), "average_precision") if row.layerwise]
    for layer in range(report.n_layers):
        means = {row.method: row.mean[layer] for row in rows if row.method != "random"}
        marked = [row.method for row in rows if row.best[layer]]
        assert marked == [max(means, key=lambda name: means[name])]


def test_only_bins_of_faithfulness_are_details(report: RationaleReport) -> None:
    metrics = ("token_f1_at_5", "comprehensiveness_5", "aopc_comprehensiveness", "fpr_content")
    chosen = replace(report, metrics=metrics, values=report.values[..., :4])
    assert tables.main_metrics(chosen) == ("token_f1_at_5", "aopc_comprehensiveness")


def test_runs_of_other_documents_or_sizes_are_not_merged(report: RationaleReport) -> None:
    renamed = tuple(replace(one, id=f"other {one.id}") for one in report.documents)
    with pytest.raises(ArgumentError, match="^reports: the documents differ "):
        RationaleReport.merge([report, replace(report, documents=renamed)])
    cut = (replace(report.documents[0], tokens=report.documents[0].tokens + 1), *report.documents[1:])
    with pytest.raises(
        ArgumentError, match=rf"^reports: {cut[0].id} has other tokens \(1 of {len(cut)} documents have\)"
    ):
        RationaleReport.merge([report, replace(report, documents=cut)])
    sized = [replace(report, meta={**report.meta, "selection": {"density": one}}) for one in (0.05, 0.5)]
    with pytest.raises(ArgumentError, match="^reports: selection differs"):
        RationaleReport.merge(sized)
    values = report.values.copy()
    values[1, :, 0] = np.nan  # saved scores of all documents but one
    fewer = replace(report, values=values)
    message = rf"^reports: {report.methods[1]} has no value for {report.documents[0].id} in one .* \(1 such document\)"
    with pytest.raises(ArgumentError, match=message):
        RationaleReport.merge(iter([report, fewer]))
    assert RationaleReport.merge(iter([fewer, fewer]))["runs"].max() == 2

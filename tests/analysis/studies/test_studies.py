from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from adapler.errors import ArgumentError
from analysis.documents.alignment import Window, align
from analysis.metrics.statistics import holm
from analysis.scores import get_method
from analysis.studies.contribution_targets import documents as ct
from analysis.studies.contribution_targets import learning
from analysis.studies.contribution_targets.__main__ import main
from analysis.studies.contribution_targets.comparison import pairs_of
from tests.analysis.conftest import batch_of, documents


def test_targets_by_hand() -> None:
    by_layer = torch.tensor([[0.64, 0.32, 0.04], [0.2, 0.2, 0.6]])  # (L, n)
    found = ct.targets_of(by_layer, torch.tensor([False, True, False]), torch.tensor([1.0, 3.0, 0.0]))
    first, mean = found["saliency, embedding output (paper)"], found["saliency, mean over layers"]
    assert torch.equal(first, by_layer[:1].expand(2, -1))
    torch.testing.assert_close(mean, torch.tensor([[0.42, 0.26, 0.32]]).expand(2, -1))
    root = torch.tensor([0.8, 0.5656854, 0.2])
    torch.testing.assert_close(found["its square root"][1], root / root.sum())
    torch.testing.assert_close(found["integrated gradients"][0], torch.tensor([0.25, 0.75, 0.0]))
    # the ceiling puts a hundred times more on a rationale token than on another
    torch.testing.assert_close(found["human rationale (ceiling)"][0], torch.tensor([0.01, 1.01, 0.01]) / 1.03)
    assert all(torch.allclose(target.sum(-1), torch.ones(2)) for target in found.values())


def test_a_target_with_a_sign_is_refused() -> None:
    by_layer = torch.tensor([[0.64, 0.32, 0.04]])
    with pytest.raises(ArgumentError, match="target: must not be negative, the lowest value is -1"):
        ct.targets_of(by_layer, torch.tensor([False, True, False]), torch.tensor([3.0, -1.0, 0.5]))


def test_integrated_gradients_are_those_of_the_true_class_without_a_sign(classifier: Any, tiny_tokenizer: Any) -> None:
    window = align(documents()[1], tiny_tokenizer, max_length=32).windows[0]
    batch = batch_of(tiny_tokenizer, [documents()[1]], labels=[0])
    found, asked = {}, {"ig_steps": 4, "title": "x", "mask_token_id": tiny_tokenizer.mask_token_id}
    for label in (0, 1):
        (document,) = ct.read_documents(classifier, [window], [label], **asked)
        found[label] = document.targets["integrated gradients"]
        signed = get_method("integrated_gradients", n_steps=4, target=label)(classifier, batch)
        assert (signed.scores < 0).any() and (found[label] >= 0).all()
        expected = signed.scores[0, 0].abs() / signed.scores[0, 0].abs().sum()
        torch.testing.assert_close(found[label], expected.expand_as(found[label]))
    assert not torch.allclose(found[0], found[1])


def test_a_predictor_learns_its_target() -> None:
    """On tiny random states; KL to the target after training is below that of uniform scores."""
    torch.manual_seed(0)
    documents = []
    for length in (5, 9, 7):
        states = torch.randn(2, length, 16, dtype=torch.bfloat16)
        target = ct.normalised(states[:, :, 0].float().exp())  # a function of the state
        window = type("Window", (), {"__len__": lambda self, n=length: n})()
        documents.append(ct.Document(window, states, {"known": target}, target))
    pairs = [learning.Pair("mlp", "known"), learning.Pair("contextual", "known")]
    options: dict[str, Any] = {"epochs": 150, "rate": 0.02, "hidden": 8, "batch_size": 2, "seed": 0}
    trained = learning.train_predictors(documents, pairs, **options)

    def divergence(scores: list[torch.Tensor]) -> float:
        pairs = zip(documents, scores, strict=True)
        return sum(float(torch.xlogy(d.targets["known"], d.targets["known"] / s).sum()) for d, s in pairs)

    uniform = divergence([torch.full_like(d.targets["known"], 1 / len(d.window)) for d in documents])
    for pair in pairs:
        scores = [learning.predictor_scores(trained[pair], document) for document in documents]
        assert divergence(scores) < 0.1 * uniform
        alone = learning.train_predictors(documents, [pair], **options)[pair]
        for one, other in zip(trained[pair], alone, strict=True):  # what stands beside it changes nothing
            assert all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_pairs() -> None:
    targets = [ct.PAPER, "its square", ct.HUMAN]
    found = pairs_of(targets, ["mlp", "contextual"])
    assert found == [*(("mlp", t) for t in targets), ("contextual", ct.PAPER), ("contextual", ct.HUMAN)]


@pytest.fixture
def split_corpus(corpus_folder: Path, tmp_path: Path) -> Path:
    """The tiny corpus with its test documents as training split too."""
    folder = tmp_path / "corpus"
    shutil.copytree(corpus_folder, folder)
    shutil.copy(folder / "test.jsonl", folder / "train.jsonl")
    return folder


def test_the_command_writes_a_row_a_target_and_layer(
    adapler_folder: Path, split_corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--model", str(adapler_folder), "--data", str(split_corpus), "--split", "test", "--limit", "4"]
    arguments += ["--epochs", "1", "--ig-steps", "2", "--max-length", "24", "--output", str(tmp_path / "out")]
    assert main(arguments) == 0
    frame = pd.read_csv(tmp_path / "out" / "targets-test.csv")
    assert frame["target"].nunique() == 10  # saliency itself, and nine targets
    assert frame.groupby("predictor")["target"].nunique().to_dict() == {"contextual": 4, "mlp": 9}
    assert set(frame["layer"]) == {"0", "1", "2", "mean"}
    assert frame["average_precision"].between(0, 1).all()
    own = frame[frame["target"] == "saliency itself (no predictor)"]
    assert (own["minus_saliency"] == 0).all() and (own["p"] == 1).all()
    tested = frame[frame["target"] != "saliency itself (no predictor)"]
    np.testing.assert_allclose(tested["p_holm"], holm(tested["p"]), rtol=1e-3)
    assert (tested["p_holm"] >= tested["p"]).all() and len(tested) == (9 + 4) * 4
    printed = capsys.readouterr().out
    assert "average precision by layer" in printed and "targets-test.csv" in printed.splitlines()[-1]


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--limit", 0, "--limit: 0 is not at least 1"),
        ("--max-length", 0, "--max-length: 0 is not at least 1"),
        ("--ig-steps", -1, "--ig-steps: -1 is not at least 0"),
        ("--seed", -1, "--seed: -1 is not at least 0"),
        ("--seed", 2**64, "--seed: 18446744073709551616 is not at most 9223372036854775807"),
        ("--learning-rate", -1, "--learning-rate: -1.0 is not a number over 0"),
        ("--learning-rate", "nan", "--learning-rate: nan is not a number over 0"),
    ],
)
def test_numbers_out_of_range(option: str, value: object, message: str) -> None:
    with pytest.raises(ArgumentError, match=f"^{message}$"):
        main([f"{option}={value}"])


def test_a_corpus_that_the_model_does_not_fit_is_refused_before_anything_runs(
    adapler_folder: Path, split_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> Any:
        pytest.fail("a document was read")

    monkeypatch.setattr("analysis.studies.contribution_targets.__main__.read_documents", refuse)
    arguments = ["--model", str(adapler_folder), "--data", str(split_corpus), "--split", "test"]
    with pytest.raises(ArgumentError, match="^max_length: got 65, BertForSequenceClassification takes at most 64 tok"):
        main([*arguments, "--max-length", "65"])
    files = [split_corpus / "train.jsonl", split_corpus / "test.jsonl"]
    text = files[0].read_text()  # that of both
    for file in files:
        file.write_text(text.replace('"NEG"', '"MIXED"'))
    with pytest.raises(
        ArgumentError, match="^document neg_.*: label 'MIXED' is not among the model's labels, NEG, POS"
    ):
        main(arguments)
    files[0].write_text(text)
    unmarked = [line for line in text.splitlines() if '"neg_none"' in line or '"pos_all"' in line]
    files[1].write_text("\n".join(unmarked) + "\n")
    with pytest.raises(
        ArgumentError, match="^--split: no document of 'test' of corpus has a rationale, and other words"
    ):
        main(arguments)


@pytest.mark.parametrize("queries", [("the plot", "a film"), ("the plot", "the plot")])
def test_queries_that_differ_are_read_as_in_training(
    adapler_folder: Path, split_corpus: Path, monkeypatch: pytest.MonkeyPatch, queries: tuple[str, str]
) -> None:
    def check(classifier: Any, windows: list[Window], *args: Any, **options: Any) -> None:
        special = {int(window.special.sum()) for window in windows}
        assert special == ({2 + 2 + 1} if queries[0] != queries[1] else {2})  # a query of two words and a [SEP]
        raise ArgumentError("seen")

    monkeypatch.setattr("analysis.studies.contribution_targets.__main__.read_documents", check)
    for name, query in zip(("train.jsonl", "test.jsonl"), queries, strict=True):
        text = (split_corpus / name).read_text()
        (split_corpus / name).write_text(text.replace('"query": ""', f'"query": "{query}"'))
    with pytest.raises(ArgumentError, match="^seen$"):
        main(["--model", str(adapler_folder), "--data", str(split_corpus), "--split", "test"])


def test_an_output_that_cannot_be_written_is_refused_before_anything_runs(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(ArgumentError, match="^--output: .*taken cannot be a folder, .*taken is a file$"):
        main(["--model", "none", "--output", str(tmp_path / "taken")])


def test_errors(adapler_folder: Path, split_corpus: Path) -> None:
    with pytest.raises(ArgumentError, match="^predictor: 'mpl' is not one of contextual, mlp"):
        main(["--predictors", "mpl"])
    with pytest.raises(ArgumentError, match="has no split 'dev'"):
        main(["--model", str(adapler_folder), "--data", str(split_corpus), "--split", "dev"])

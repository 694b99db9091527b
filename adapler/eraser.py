"""ERASER corpora (DeYoung et al., 2020): documents, labels and human rationales; reader, download, statistics, leaks.

    NAME/{train,val,test}.jsonl     an example a line: annotation_id, classification, evidences, query, docids
    NAME/docs/DOCID                 one document a file, or NAME/docs.jsonl with docid and document

Documents are tokenised by white space, one sentence a line. An evidence is the half-open range [start_token, end_token)
of words of its document: words are found by index, never by searching for the text. An evidence that quotes another
text than those words is listed in `misquoted`. An empty range is an error unless its text is empty too: the test split
of the movies has 20 of those, which mark nothing.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import lzma
import os
import shutil
import tarfile
import tempfile
import urllib.request
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field, ValidationError

from adapler.errors import ArgumentError, DataError, excerpt, validation_reason
from adapler.system import read_rows, replacing, sha256_of

SPLITS = ("train", "val", "test")
ARCHIVE_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
OFFICIAL = "https://www.eraserbenchmark.com/zipped/movies.tar.gz"


# ---- A corpus in memory


@dataclass(frozen=True)
class EraserExample:
    """One annotated document.

    Attributes:
        words: of the document; docs.jsonl may have empty ones.
        spans: half-open word ranges of the rationale: sorted, disjoint, not touching. Empty without evidence.
        documents: id and number of words of each document that `words` joins, in order; empty for one document with the
            example's own id.
        evidences: (document id, start, end) of every annotation as in the file; ranges may touch, overlap, repeat or be
            empty, and ERASER's own scorer counts them so. None if the source has no such list.
        annotators: spans of each annotator, if the source tells them apart.
        places: index in the source of each of them, if some in between did not annotate the text; empty: 0, 1, 2, ...
        annotated: False if nobody whose marks count annotated the text; then an empty `spans` says nothing.
        misquoted: description of each evidence whose quoted text differs from the words of its range.
    """

    id: str
    words: tuple[str, ...]
    label: str
    spans: tuple[tuple[int, int], ...]
    query: str = ""
    documents: tuple[tuple[str, int], ...] = ()
    evidences: tuple[tuple[str, int, int], ...] | None = None
    annotators: tuple[tuple[tuple[int, int], ...], ...] = ()
    places: tuple[int, ...] = ()
    annotated: bool = True
    misquoted: tuple[str, ...] = field(default=(), compare=False)

    def rationale(self) -> NDArray[np.bool_]:
        """(n_words,) True for words that a human marked."""
        mask = np.zeros(len(self.words), dtype=np.bool_)
        for start, end in self.spans:
            mask[start:end] = True
        return mask


@dataclass(frozen=True)
class EraserCorpus:
    name: str  # of its folder or archive
    source: str  # path that it was read from
    checksum: str  # sha256 over the examples, the same of a folder and an archive
    labels: tuple[str, ...]  # names, sorted (NEG, POS)
    splits: dict[str, tuple[EraserExample, ...]]  # those of train, val, test that exist, in that order
    annotators: str = field(default="auto", compare=False)  # whose words count: majority, union, an index; auto


def queries_differ(corpus: EraserCorpus) -> bool:
    """Whether two examples have different queries; one that is the same everywhere is not shown to a model."""
    return len({example.query for examples in corpus.splits.values() for example in examples}) > 1


def misquoted_note(corpus: EraserCorpus, split: str) -> str | None:
    """A warning about evidences that quote another text than the words of their range; None if there are none."""
    wrong = [(example.id, found) for example in corpus.splits[split] for found in example.misquoted]
    if not wrong:
        return None
    total = sum(len(example.evidences or ()) for example in corpus.splits[split])
    return (
        f"{split}: {len(wrong)} of {total} evidences quote another text than the words of their range, so either "
        f"may be wrong; the ranges count. First: {wrong[0][0]}, {wrong[0][1]}"
    )


def merge_spans(spans: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Sorted union of half-open ranges; overlapping and touching ones become one.

    >>> merge_spans([(7, 9), (1, 3), (3, 5), (2, 4)])
    ((1, 5), (7, 9))
    """
    merged: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


# ---- Reading


class _Evidence(BaseModel, coerce_numbers_to_str=True):
    docid: str = Field(min_length=1)
    start_token: int
    end_token: int
    text: Any = None


class _Row(BaseModel, coerce_numbers_to_str=True):
    """A line of a split. BoolQ has numbers as ids. Evidences are many groups of one, or one group of many."""

    annotation_id: str = Field(min_length=1)
    classification: str = Field(min_length=1)
    evidences: list[list[_Evidence]]
    query: str | None = None
    docids: list[str] | None = None


def read_corpus(path: str | os.PathLike[str]) -> EraserCorpus:
    """Read a folder in ERASER layout, a folder that holds exactly one such folder, or a tar archive of one. DataError
    names the file and the line of what is missing, malformed, out of range or ambiguous."""
    path = Path(path)
    if path.is_dir():
        root = _find_root(path)
        return _read(root, name=root.resolve().name)
    with _unpacked(path) as folder:
        root = _find_root(folder)
        name = path.name.split(".tar")[0].removesuffix(".tgz") if root == folder else root.name
        return replace(_read(root, name=name), source=str(path))


def has_documents(folder: Path) -> bool:
    """Whether a folder itself has ERASER documents, which tells a corpus from a task of JSON lines."""
    return (folder / "docs").is_dir() or (folder / "docs.jsonl").is_file()


def holds_corpus(path: str | os.PathLike[str]) -> bool:
    """Whether a path looks like an ERASER corpus: an archive, or documents in it or one folder below."""
    path = Path(path)
    if not path.is_dir():
        return path.is_file() and path.name.lower().endswith(ARCHIVE_SUFFIXES)
    return any(has_documents(folder) for folder in (path, *(entry for entry in path.iterdir() if entry.is_dir())))


@contextmanager
def _unpacked(archive: Path) -> Iterator[Path]:
    """A temporary folder with the files of a tar archive; DataErrors about them name the archive."""
    if not archive.is_file():
        raise DataError(f"{archive}: no such file or folder")
    if not holds_corpus(archive):
        raise DataError(f"{archive}: neither a folder nor an archive ({', '.join(ARCHIVE_SUFFIXES)})")
    with tempfile.TemporaryDirectory(prefix="adapler-") as folder:
        try:
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")  # refuses links and paths that lead out of the folder
        except (tarfile.TarError, EOFError, OSError, zlib.error, lzma.LZMAError) as error:
            raise DataError(f"{archive}: not a complete tar archive ({error})") from error
        try:
            yield Path(folder)
        except DataError as error:
            raise DataError(str(error).replace(folder, str(archive))) from error


def _find_root(folder: Path) -> Path:
    """The folder itself if it has a split file, else the one folder below that has."""
    names = [f"{split}.jsonl" for split in SPLITS]
    for above in ("", "*/", "*/*/"):
        roots = sorted({file.parent for name in names for file in folder.glob(above + name)})
        if len(roots) > 1:
            listed = ", ".join(root.name for root in roots[:4])
            raise DataError(f"{folder}: holds {len(roots)} corpora ({listed}), name one of them")
        if roots:
            return roots[0]
    raise DataError(f"{folder}: no corpus in ERASER layout (no {', no '.join(names)})")


def _read(root: Path, *, name: str) -> EraserCorpus:
    documents = _documents(root)
    splits: dict[str, tuple[EraserExample, ...]] = {}
    for split in SPLITS:  # train first: it says which labels there are
        path = root / f"{split}.jsonl"
        if path.is_file():
            splits[split] = _read_split(path, documents, known={example.label for example in splits.get("train", ())})
    labels = tuple(sorted({example.label for examples in splits.values() for example in examples}))
    return EraserCorpus(name, str(root), _checksum(splits), labels, splits)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start})") from error


def _documents(root: Path) -> dict[str, tuple[str, ...]]:
    """Words by document id, as ERASER's own reader counts them (rationale_benchmark/utils.py): docs.jsonl goes first;
    empty words, of doubled spaces and blank lines, count there and not in docs/."""
    path, folder = root / "docs.jsonl", root / "docs"
    if path.is_file():
        documents: dict[str, tuple[str, ...]] = {}
        for _, where, row in read_rows(path, "jsonl"):
            docid, text = str(row.get("docid", "")), row.get("document")
            if not docid or not isinstance(text, str) or docid in documents:
                raise DataError(f"{where}: needs a new 'docid' and a text 'document', found {excerpt(row, 80)}")
            documents[docid] = tuple(word for part in text.split("\n") for word in part.strip().split(" "))
        return documents
    if not folder.is_dir():
        raise DataError(f"{root}: has neither docs/ nor docs.jsonl with the documents")
    files = [file for file in sorted(folder.rglob("*")) if file.is_file() and not file.name.startswith(".")]
    texts = {file.relative_to(folder).as_posix(): _text(file).replace("\r", "\n").split("\n") for file in files}
    return {
        name: tuple(word for line in lines for word in line.strip().split(" ") if word) for name, lines in texts.items()
    }


def _read_split(path: Path, documents: Mapping[str, tuple[str, ...]], *, known: set[str]) -> tuple[EraserExample, ...]:
    """The examples of a split. `known`: labels of train, empty without train."""
    examples: dict[str, EraserExample] = {}
    for _, where, fields in read_rows(path, "jsonl"):
        try:
            example = _example(_Row.model_validate(fields), documents, where)
        except ValidationError as error:
            raise DataError(f"{where}: {validation_reason(error)}") from error
        if known and example.label not in known:
            raise DataError(f"{where}: label {example.label!r} is not in train, which has {', '.join(sorted(known))}")
        if example.id in examples:
            raise DataError(f"{where}: annotation id {example.id!r} appears twice in this split")
        examples[example.id] = example
    if not examples:
        raise DataError(f"{path}: holds no examples")
    return tuple(examples.values())


def _example(row: _Row, documents: Mapping[str, tuple[str, ...]], where: str) -> EraserExample:
    evidences = [one for group in row.evidences for one in group]
    marking = [one for one in evidences if one.start_token != one.end_token or one.text != ""]
    # Documents in order of first mention: docids, or else the example's own, then those of evidences.
    own = [row.annotation_id] if row.annotation_id in documents else []
    docids = list(dict.fromkeys([*(row.docids or own), *(one.docid for one in marking)]))
    if not docids:
        raise DataError(f"{where}: no document is named {row.annotation_id!r}, and no evidence names another")
    offsets: dict[str, int] = {}  # word at which each document begins once they are joined
    words: tuple[str, ...] = ()
    for docid in docids:
        if not any(documents.get(docid, ())):
            raise DataError(f"{where}: document {docid!r} is {'empty' if docid in documents else 'missing from docs'}")
        offsets[docid] = len(words)
        words += documents[docid]
    for one in marking:
        length = len(documents[one.docid])
        if not 0 <= one.start_token < one.end_token <= length:
            span = f"[{one.start_token}, {one.end_token})"
            raise DataError(f"{where}: evidence {span} is out of range, document {one.docid!r} has {length} words")
    spans = merge_spans((offsets[one.docid] + one.start_token, offsets[one.docid] + one.end_token) for one in marking)
    lengths = {docid: len(documents[docid]) for docid in docids}
    return EraserExample(
        id=row.annotation_id,
        words=words,
        label=row.classification,
        spans=spans,
        query=row.query or "",
        documents=tuple(lengths.items()),
        evidences=tuple(
            (one.docid, one.start_token, one.end_token)
            for one in evidences
            if 0 <= one.start_token <= lengths.get(one.docid, -1)
        ),
        misquoted=tuple(note for one in evidences if (note := _misquoted(one, documents.get(one.docid, ())))),
    )


def _misquoted(evidence: _Evidence, document: tuple[str, ...]) -> str:
    """Difference between the words of an evidence and the text that it quotes, up to white space; "" if they agree."""
    start, end, text = evidence.start_token, evidence.end_token, evidence.text
    found = document[start:end]
    if not isinstance(text, str) or not text.strip() or "".join("".join(found).split()) == "".join(text.split()):
        return ""
    return f"[{start}, {end}) is {excerpt(' '.join(found))}, its text {excerpt(text)}"


def _checksum(splits: Mapping[str, tuple[EraserExample, ...]]) -> str:
    digest = hashlib.sha256()
    for split, examples in splits.items():
        for example in examples:
            row = [split, example.id, example.words, example.label, example.spans, example.query]
            digest.update(json.dumps(row).encode())
    return digest.hexdigest()


# ---- Download


def install_movies(
    target: str | os.PathLike[str] = "data/eraser",
    *,
    archive: str | os.PathLike[str] | None = None,
    url: str = OFFICIAL,
    expected_sha256: str | None = None,
) -> Path:
    """Check an archive of the ERASER Movie Reviews, a file at hand or the download, and install it as TARGET/movies,
    whole or not at all; SOURCE.json there records source, size and sha256."""
    destination = Path(target) / "movies"
    if destination.is_dir() and any(destination.iterdir()) and not has_documents(destination):
        raise ArgumentError(f"{destination}: exists and is not an ERASER corpus, choose another --target")
    with tempfile.TemporaryDirectory(prefix="adapler-") as temporary:
        path, source = Path(temporary) / url.rpartition("/")[2], url
        if archive is not None:
            path, source = Path(archive), Path(archive).name
        else:
            try:
                request = urllib.request.Request(url, headers={"User-Agent": "adapler"})
                with urllib.request.urlopen(request, timeout=30) as response:
                    path.write_bytes(response.read())
            except (OSError, ValueError, http.client.HTTPException) as error:
                raise DataError(
                    f"{url}: download failed ({error}); an archive from elsewhere can be given instead: "
                    "adapler data download --archive FILE"
                ) from error
        checksum = sha256_of(path)
        if expected_sha256 is not None and checksum != expected_sha256.strip().lower():
            raise DataError(f"{path.name}: sha256 is {checksum}, expected {expected_sha256}")
        with _unpacked(path) as folder:
            root = _find_root(folder)
            corpus = _read(root, name="movies")
            record = {
                "source": source,
                "bytes": path.stat().st_size,
                "sha256": checksum,
                "corpus_checksum": corpus.checksum,
                "examples": {split: len(examples) for split, examples in corpus.splits.items()},
            }
            with replacing(destination) as partial:
                shutil.copytree(root, partial)
                (partial / "SOURCE.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return destination


# ---- Statistics


def sizes(split: str, lengths: Sequence[int], labels: Iterable[str], names: Sequence[str]) -> dict[str, Any]:
    """Number of documents of a split, how often it has each of the labels `names`, and lengths in words."""
    counts = Counter(labels)
    return {
        "split": split,
        "documents": len(lengths),
        "labels": {name: counts[name] for name in names},
        "words_min": min(lengths),
        "words_median": float(np.median(lengths)),
        "words_max": max(lengths),
    }


def corpus_statistics(corpus: EraserCorpus) -> list[dict[str, Any]]:
    """One dict per split, in words of the whole documents. `density_mean` is the mean over documents of the share of
    rationale words, `density_pooled` the share over all their words; both, and `spans_per_document`, over documents
    with evidence only."""
    rows = []
    for split, examples in corpus.splits.items():
        marked = [example.rationale() for example in examples if example.spans]
        row = sizes(split, [len(e.words) for e in examples], [e.label for e in examples], corpus.labels)
        row["density_mean"] = float(np.mean([mask.mean() for mask in marked])) if marked else None
        row["density_pooled"] = float(np.concatenate(marked).mean()) if marked else None
        row["spans_per_document"] = sum(len(e.spans) for e in examples) / len(marked) if marked else None
        rows.append({**row, "without_evidence": len(examples) - len(marked)})
    return rows


def find_leaks(corpus: EraserCorpus) -> list[str]:
    """Examples that two splits share: the same annotation id, or else the same words."""
    return find_shared(
        {split: [(e.id, " ".join(e.words)) for e in examples] for split, examples in corpus.splits.items()}
    )


def find_shared(splits: Mapping[str, Sequence[tuple[str, str]]]) -> list[str]:
    """A line for each example that two splits share, given as (id, text); one that shares both counts once, by id."""
    leaks = []
    for first, second in combinations(splits, 2):
        ids = {identifier for identifier, _ in splits[first]}
        texts = {text: identifier for identifier, text in reversed(splits[first])}
        for identifier, text in splits[second]:
            if identifier in ids or text in texts:
                kind, other = ("id", identifier) if identifier in ids else ("text", texts[text])
                leaks.append(f"{first} {other} and {second} {identifier} have the same {kind}")
    return leaks


# ---- Labels of a data set and of a model, and samples that are balanced over them


def match_labels(labels: Sequence[str], names: Sequence[str]) -> list[int] | None:
    """Index in a model's class names of each label of a data set; None if the names do not tell.

    Case is ignored. Without an equal name for each label, NEG stands for negative: one name is the beginning of the
    other, of three letters at least. Labels that are numbers are indices, unless the model's names are numbers too. For
    a model without names (LABEL_0, LABEL_1, ...) labels count in their own order.

    >>> match_labels(["POS", "NEG"], ["negative", "positive"]), match_labels(["1"], ["no", "yes"])
    ([1, 0], [1])
    >>> match_labels(["toxic", "fine"], ["negative", "positive"]) is None
    True
    """
    mine, theirs = [label.lower() for label in labels], [name.lower() for name in names]
    for here, there, alike in ((labels, names, str.__eq__), (mine, theirs, str.__eq__), (mine, theirs, _begins)):
        found = [[index for index, name in enumerate(there) if alike(label, name)] for label in here]
        if all(len(each) == 1 for each in found) and len({each[0] for each in found}) == len(found):
            return [each[0] for each in found]
    if all(map(str.isdecimal, mine)) and not any(map(str.isdecimal, theirs)):
        indices = [int(label) for label in mine]
        return indices if max(indices) < len(names) else None
    if len(labels) == len(names) and all(name == f"label_{index}" for index, name in enumerate(theirs)):
        return list(range(len(labels)))
    return None


def _begins(one: str, other: str) -> bool:
    short, long = sorted((one, other), key=len)
    return len(short) >= 3 and long.startswith(short)


def balanced_indices(labels: Sequence[Any], n: int, *, seed: int) -> list[int]:
    """Ascending indices of a random sample of `n` rows (or all) that is balanced over the labels.

    A label with too few rows gives all it has, and the others share the rest; the first labels in sorted order may give
    one row more. A smaller sample is part of every larger one with the same seed.

    >>> balanced_indices(["NEG", "NEG", "NEG", "NEG", "NEG", "POS"], 4, seed=0)
    [2, 3, 4, 5]
    """
    if n < 1:
        raise ArgumentError(f"n: {n} is not at least 1")
    if n >= len(labels):
        return list(range(len(labels)))
    _, label_of_row, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    quotas, left = np.zeros_like(counts), n
    while left:
        unfilled = np.flatnonzero(quotas < counts)
        for label in unfilled[:left]:
            given = min(max(1, left // len(unfilled)), int(counts[label] - quotas[label]))
            quotas[label] += given
        left = n - int(quotas.sum())
    random = np.random.default_rng(seed)
    chosen: list[int] = []
    for label, quota in enumerate(quotas):
        chosen += random.permutation(np.flatnonzero(label_of_row == label))[:quota].tolist()
    return sorted(chosen)

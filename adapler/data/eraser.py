"""Reader for the ERASER layout (DeYoung et al., 2020): documents, labels and human rationales.

    NAME/{train,val,test}.jsonl     an example a line: annotation_id, classification, evidences, query, docids
    NAME/docs/DOCID                 one document a file, or NAME/docs.jsonl with docid and document

Documents are tokenised by white space already, one sentence a line. An evidence is the half-open range
[start_token, end_token) of words of its document. Words are found by index, never by searching for the text; where
an evidence quotes another text than those words, the example says so (`misquoted`): it may be counted otherwise.
Ids that are numbers (BoolQ has them) become strings. An empty range is an error unless its text is empty too: the
real test split of the movies has 20 of those, which mark nothing.

Words are counted as ERASER's own reader counts them (rationale_benchmark/utils.py). It reads the two forms in two
ways: from docs/ it drops the empty words that doubled spaces and blank lines make, from docs.jsonl it keeps them.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from adapler.data.archive import (
    ARCHIVE_SUFFIXES,
    FileTree,
    excerpt,
    is_archive,
    json_lines,
    open_archive,
    open_folder,
)
from adapler.data.corpus import EraserCorpus, EraserExample, merge_spans
from adapler.errors import DataError

__all__ = [
    "SPLITS",
    "EraserCorpus",
    "EraserExample",
    "find_root",
    "has_documents",
    "holds_corpus",
    "merge_spans",
    "read_corpus",
    "read_tree",
]

SPLITS = ("train", "val", "test")
_SPLIT_FILES = tuple(f"{split}.jsonl" for split in SPLITS)


def read_corpus(path: str | os.PathLike[str]) -> EraserCorpus:
    """Reads a folder in ERASER layout, a folder that holds exactly one such folder, or a tar archive of one.

    Archives are read in memory, nothing is unpacked. Raises DataError with file and line for anything missing,
    malformed, out of range or ambiguous.
    """
    path = Path(path)
    if path.is_dir():
        return read_tree(_open_folder(path), name=path.resolve().name)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    if not is_archive(path):
        raise DataError(f"{path}: neither a folder nor an archive ({', '.join(ARCHIVE_SUFFIXES)})")
    return read_tree(open_archive(path), name=path.name.split(".tar")[0].removesuffix(".tgz"))


def read_tree(tree: FileTree, *, name: str) -> EraserCorpus:
    """The corpus in a tree of files, called `name` unless it lies in a sub-folder, which then names it."""
    source = tree.root
    root = find_root(tree)
    tree, name = tree.below(root), root.rpartition("/")[2] or name
    documents = _documents(tree)
    present = [split for split in SPLITS if f"{split}.jsonl" in tree.files]
    splits: dict[str, tuple[EraserExample, ...]] = {}
    for split in present:  # train first: it says which labels there are
        known = sorted({example.label for example in splits.get("train", ())})
        splits[split] = _read_split(tree, split, documents, known=known)
    labels = tuple(sorted({example.label for examples in splits.values() for example in examples}))
    return EraserCorpus(name, source, _checksum(splits), labels, splits)


def holds_corpus(path: str | os.PathLike[str]) -> bool:
    """Whether a path looks like an ERASER corpus: an archive, or documents in it or one folder below."""
    path = Path(path)
    if not path.is_dir():
        return path.is_file() and is_archive(path)
    return any(has_documents(folder) for folder in (path, *(entry for entry in path.iterdir() if entry.is_dir())))


def has_documents(folder: Path) -> bool:
    """Whether a folder itself has ERASER documents, which tells a corpus from a task of JSON lines."""
    return (folder / "docs").is_dir() or (folder / "docs.jsonl").is_file()


def words_of_file(text: str) -> tuple[str, ...]:
    """The words of a document in docs/, as ERASER's reader counts them.

    Lines end at "\\n", "\\r" or both. White space around a line is dropped, the rest is parted at single spaces,
    and empty words are dropped. A tab or a no-break space inside a line parts nothing.
    """
    lines = text.replace("\r", "\n").split("\n")
    return tuple(word for line in lines for word in line.strip().split(" ") if word)


def words_of_json(text: str) -> tuple[str, ...]:
    """The words of a document in docs.jsonl, as ERASER's reader counts them.

    Lines end at "\\n" alone, and empty words are kept: a doubled space makes one, and so does a blank line, also the
    one after a line end at the end of the text. Evidences count them.
    """
    return tuple(word for line in text.split("\n") for word in line.strip().split(" "))


def _open_folder(path: Path) -> FileTree:
    """The files that matter, so that a folder of many other things is not walked through."""
    patterns = ["*.jsonl", "docs/**/*"]
    if not any((path / name).is_file() for name in _SPLIT_FILES):
        patterns += [f"*/{pattern}" for pattern in patterns]
    return open_folder(path, *patterns)


def find_root(tree: FileTree) -> str:
    """The one folder of the tree with a split file: the top itself when it has one ("")."""
    roots = sorted({name.rpartition("/")[0] for name in tree.files if name.rpartition("/")[2] in _SPLIT_FILES})
    if "" in roots:
        return ""
    if not roots:
        raise DataError(f"{tree.root}: no corpus in ERASER layout (no {', no '.join(_SPLIT_FILES)})")
    if len(roots) > 1:
        raise DataError(f"{tree.root}: holds {len(roots)} corpora ({', '.join(roots[:4])}), name one of them")
    return roots[0]


def _documents(tree: FileTree) -> dict[str, tuple[str, ...]]:
    """Words by document id. docs.jsonl goes first, as in ERASER's own reader."""
    if "docs.jsonl" not in tree.files:
        names = [name for name in tree.files if name.startswith("docs/")]
        if not names:
            raise DataError(f"{tree.root}: has neither docs/ nor docs.jsonl with the documents")
        return {name[len("docs/") :]: words_of_file(tree.read(name)) for name in names}
    documents: dict[str, tuple[str, ...]] = {}
    where = tree.where("docs.jsonl")
    for line, row in json_lines(tree.read("docs.jsonl"), where):
        docid = _identifier(row, "docid", f"{where}:{line}")
        if docid in documents:
            raise DataError(f"{where}:{line}: document {docid!r} appears twice")
        document = row.get("document")
        if not isinstance(document, str):
            raise DataError(f"{where}:{line}: field 'document' must be a string, found {excerpt(document)}")
        documents[docid] = words_of_json(document)
    return documents


def _read_split(
    tree: FileTree, split: str, documents: Mapping[str, tuple[str, ...]], *, known: list[str]
) -> tuple[EraserExample, ...]:
    """The examples of a split; `known`: the labels of train, none where there is no train."""
    where = tree.where(f"{split}.jsonl")
    examples: dict[str, EraserExample] = {}
    for line, row in json_lines(tree.read(f"{split}.jsonl"), where):
        example = _example(row, documents, f"{where}:{line}")
        if known and example.label not in known:
            raise DataError(
                f"{where}:{line}: label {example.label!r} of {example.id!r} is not in train, which has "
                f"{', '.join(known)}"
            )
        if example.id in examples:
            raise DataError(f"{where}:{line}: annotation id {example.id!r} appears twice in this split")
        examples[example.id] = example
    if not examples:
        raise DataError(f"{where}: holds no examples")
    return tuple(examples.values())


def _example(row: dict[str, Any], documents: Mapping[str, tuple[str, ...]], where: str) -> EraserExample:
    annotation_id = _identifier(row, "annotation_id", where)
    label = _text(row, "classification", where)
    query = _query(row, where)
    evidences, texts = _evidences(row, where)
    marking = [evidence for evidence in evidences if evidence[1] != evidence[2]]
    docids = _docids(row, annotation_id, [docid for docid, _, _ in marking], documents, where)

    offsets: dict[str, int] = {}  # word at which each document begins once they are concatenated
    words: tuple[str, ...] = ()
    for docid in docids:
        offsets[docid] = len(words)
        words += documents[docid]
    spans = []
    for docid, start, end in marking:
        length = len(documents[docid])
        if not 0 <= start < end <= length:
            raise DataError(
                f"{where}: evidence [{start}, {end}) is out of range, document {docid!r} has {length} words"
            )
        spans.append((offsets[docid] + start, offsets[docid] + end))
    lengths = tuple((docid, len(documents[docid])) for docid in docids)
    known = tuple(evidence for evidence in evidences if 0 <= evidence[1] <= dict(lengths).get(evidence[0], -1))
    wrong = tuple(
        difference
        for (docid, start, end), text in zip(evidences, texts, strict=True)
        if docid in documents and (difference := _misquoted(documents[docid][start:end], text, start=start))
    )
    return EraserExample(annotation_id, words, label, merge_spans(spans), query, lengths, known, misquoted=wrong)


def _misquoted(words: tuple[str, ...], text: object, *, start: int) -> str:
    """How the words of an evidence differ from the text that it quotes; "" where they do not, but for white space."""
    if not isinstance(text, str) or not text.strip() or _without_spaces("".join(words)) == _without_spaces(text):
        return ""
    return f"[{start}, {start + len(words)}) is {excerpt(' '.join(words))}, its text {excerpt(text)}"


def _without_spaces(text: str) -> str:
    """White space of any kind parts nothing here; a word may hold a tab or a no-break space."""
    return "".join(text.split())


def _evidences(row: dict[str, Any], where: str) -> tuple[list[tuple[str, int, int]], list[object]]:
    """(document, start, end) of every evidence and the text of each. Many groups of one are one group of many.

    20 evidences of the movies' test split are [n, n) with the text "": annotations of nothing. Any other empty one is
    an error.
    """
    groups = row.get("evidences")
    if not isinstance(groups, list):
        raise DataError(f"{where}: field 'evidences' must be a list of groups, found {excerpt(groups)}")
    found: list[tuple[str, int, int]] = []
    texts: list[object] = []
    for group in groups:
        if not isinstance(group, list):
            raise DataError(f"{where}: each group in 'evidences' must be a list, found {excerpt(group)}")
        for evidence in group:
            if not isinstance(evidence, dict):
                raise DataError(f"{where}: an evidence must be an object, found {excerpt(evidence)}")
            docid = _identifier(evidence, "docid", where)
            start, end = _integer(evidence, "start_token", where), _integer(evidence, "end_token", where)
            if start == end and evidence.get("text") != "":
                raise DataError(f"{where}: evidence [{start}, {end}) is out of range: it is empty, and its text is not")
            found.append((docid, start, end))
            texts.append(evidence.get("text"))
    return found, texts


def _docids(
    row: dict[str, Any],
    annotation_id: str,
    cited: list[str],
    documents: Mapping[str, tuple[str, ...]],
    where: str,
) -> list[str]:
    """Documents in order of first mention: 'docids', or else the example's own, then those of evidences."""
    listed = row.get("docids") or []
    if not isinstance(listed, list) or not all(_is_identifier(docid) for docid in listed):
        raise DataError(f"{where}: field 'docids' must be null or a list of strings, found {excerpt(listed)}")
    listed = [str(docid) for docid in listed]
    own = [annotation_id] if annotation_id in documents else []
    docids = list(dict.fromkeys([*(listed or own), *cited]))
    if not docids:
        raise DataError(f"{where}: no document is named {annotation_id!r}, and no evidence names another")
    for docid in docids:
        if docid not in documents:
            raise DataError(f"{where}: document {docid!r} is missing from docs")
        if not any(documents[docid]):
            raise DataError(f"{where}: document {docid!r} is empty")
    return docids


def _text(row: dict[str, Any], field: str, where: str) -> str:
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: field {field!r} must be a string with text, found {excerpt(value)}")
    return value


def _query(row: dict[str, Any], where: str) -> str:
    value = row.get("query")
    if not isinstance(value, str | None):
        raise DataError(f"{where}: field 'query' must be a text or null, found {excerpt(value)}")
    return value or ""


def _identifier(row: dict[str, Any], field: str, where: str) -> str:
    value = row.get(field)
    if not _is_identifier(value):
        raise DataError(f"{where}: field {field!r} must be a string with text or a number, found {excerpt(value)}")
    return str(value)


def _is_identifier(value: object) -> bool:
    """ERASER's own files have strings, and whole numbers in BoolQ."""
    return isinstance(value, str) and bool(value.strip()) or isinstance(value, int) and not isinstance(value, bool)


def _integer(row: dict[str, Any], field: str, where: str) -> int:
    value = row.get(field)
    if not isinstance(value, int) or isinstance(value, bool):
        raise DataError(f"{where}: evidence field {field!r} must be a whole number, found {excerpt(value)}")
    return value


def _checksum(splits: Mapping[str, tuple[EraserExample, ...]]) -> str:
    digest = hashlib.sha256()
    for split, examples in splits.items():
        for example in examples:
            row = [split, example.id, example.words, example.label, example.spans, example.query]
            digest.update(json.dumps(row).encode())
    return digest.hexdigest()

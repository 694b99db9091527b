"""Small ERASER corpora, written where a test needs them."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Build = Callable[..., Path]
DOCUMENTS = {
    "neg_1": "a dull film .\nit never ends .",
    "pos_1": "what a joy !\nsee it twice .",
    "neg_2": "no .",
}


def evidence(docid: str, start: int, end: int, **extra: Any) -> dict[str, Any]:
    return {"docid": docid, "start_token": start, "end_token": end, "start_sentence": -1, "end_sentence": -1, **extra}


def row(annotation_id: str, label: str, *groups: list[dict[str, Any]], **extra: Any) -> dict[str, Any]:
    return {
        "annotation_id": annotation_id,
        "classification": label,
        "evidences": list(groups),
        "query": "What is the sentiment?",
        **extra,
    }


def rows() -> dict[str, list[dict[str, Any]]]:
    """Train: groups of one; test: one group of many, docids null."""
    return {
        "train": [
            row("neg_1", "NEG", [evidence("neg_1", 1, 3)], [evidence("neg_1", 5, 7)]),
            row("pos_1", "POS"),
        ],
        "test": [row("neg_2", "NEG", [evidence("neg_2", 0, 1), evidence("neg_2", 0, 2)], docids=None)],
    }


def files_of(
    splits: Mapping[str, list[dict[str, Any]]] | None = None,
    documents: Mapping[str, str] | None = None,
    *,
    one_file: bool = False,
) -> dict[str, str]:
    """Relative name -> text of a corpus, its documents in docs/ or, with `one_file`, in docs.jsonl."""
    splits = rows() if splits is None else splits
    documents = DOCUMENTS if documents is None else documents
    files = {f"{split}.jsonl": "".join(json.dumps(r) + "\n" for r in found) for split, found in splits.items()}
    if one_file:
        lines = (json.dumps({"docid": docid, "document": text}) for docid, text in documents.items())
        files["docs.jsonl"] = "\n".join(lines)
    else:
        files |= {f"docs/{docid}": text for docid, text in documents.items()}
    return files


def write(folder: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())  # bytes: line ends stay as they are
    return folder


def pack(path: Path, files: Mapping[str, str], *, prefix: str = "movies/", mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for name, text in files.items():
            member = tarfile.TarInfo(prefix + name)
            data = text.encode()
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def broken(**changes: Any) -> str:
    """The first line of train with other fields, or, for ..., without one."""
    return json.dumps({k: v for k, v in (rows()["train"][0] | changes).items() if v is not ...})

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertTokenizer, PreTrainedTokenizerFast, RobertaTokenizer

from tests.adapler.data import corpora


@pytest.fixture
def corpus_folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a corpus (see `corpora.files_of`) and returns its folder, called movies."""

    def build(splits: Any = None, documents: Any = None, *, one_file: bool = False) -> Path:
        return corpora.write(tmp_path / "movies", corpora.files_of(splits, documents, one_file=one_file))

    return build


@pytest.fixture
def development_data() -> Callable[[str], Path]:
    """A path below the folder of real data, ADAPLER_SHARED or ../shared/data; skips where it is not there."""

    def find(name: str) -> Path:
        root = Path(__file__).parents[3]
        given = os.environ.get("ADAPLER_SHARED")
        folders = [root.parent / "shared"] if given is None else [Path(given)]
        for path in (path for folder in folders for path in (folder / "data" / name, folder / name)):
            if path.exists():
                return path
        pytest.skip(f"no {name}; set ADAPLER_SHARED to the folder that holds data/{name}")

    return find


@pytest.fixture(scope="session")
def bert_tokenizer() -> Any:
    """[CLS] 2, [SEP] 3; words a..e are one piece each, "ab" is a + ##b; w0 .. w99 are one piece each."""
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcde", "##b", *(f"w{i}" for i in range(100))]
    return BertTokenizer(vocab={piece: index for index, piece in enumerate(pieces)})


def _byte_vocabulary() -> dict[str, int]:
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "<mask>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    return {piece: index for index, piece in enumerate(pieces)}


@pytest.fixture(scope="session")
def roberta_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("roberta")
    RobertaTokenizer(vocab=_byte_vocabulary(), merges=[]).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def generic_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level tokenizer of no model's own class, as ModernBERT has: the class ignores add_prefix_space."""
    backend = Tokenizer(models.BPE(vocab=_byte_vocabulary(), merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    folder = tmp_path_factory.mktemp("generic")
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="<unk>").save_pretrained(folder)
    return folder

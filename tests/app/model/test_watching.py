from __future__ import annotations

from typing import Any

import pytest

from app.model import comparing, watching
from app.sources.documents import Document
from tests.app.conftest import DOCUMENTS

DOCUMENT = Document("neg_1", *DOCUMENTS["neg_1"][:2])


@pytest.mark.parametrize(("method", "least"), [("occlusion", 10), ("integrated_gradients(n_steps=4)", 4)])
def test_passes_are_counted(app_model: Any, tiny_tokenizer: Any, method: str, least: int) -> None:
    heard: list[int] = []
    with watching.counted(app_model, heard.append):
        comparing.compare(app_model, tiny_tokenizer, DOCUMENT, method)
    assert heard == sorted(heard) and heard[-1] >= least - 1
    before = len(heard)
    comparing.compare(app_model, tiny_tokenizer, DOCUMENT, "saliency")
    assert len(heard) == before, "nothing is left on the model"


def test_what_is_raised_ends_the_method(app_model: Any, tiny_tokenizer: Any) -> None:
    class Enough(BaseException):
        """As Streamlit's own, which ends a run of the page."""

    def tell(done: int) -> None:
        if done > 3:
            raise Enough

    with pytest.raises(Enough), watching.counted(app_model, tell):
        comparing.compare(app_model, tiny_tokenizer, DOCUMENT, "occlusion")

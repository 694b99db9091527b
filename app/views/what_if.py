"""What if: words deleted, masked, replaced, or forced to stay or to go, and what that changes; how faithful the scores
of this text are."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from adapler.errors import AdapLeRError
from app.markup import cards
from app.markup import player as drawing
from app.model import edits as editing
from app.model.edits import Edit
from app.model.joining import join_words
from app.model.tracing import Trace
from app.panels import choosing, common, player
from app.server import state
from app.sources.documents import Document
from app.sources.loading import Checkpoint
from app.work import results

History = list[dict[int, Edit]]  # each entry has all edits of the text by then; the last one counts


def show(checkpoint: Checkpoint, document: Document, trace: Trace, *, scale: float) -> None:
    """trace: of tokens."""
    st.fragment(_show)(checkpoint, document, trace, scale=scale)


def start(document: Document, words: Sequence[int]) -> None:
    """For a callback elsewhere: show this view with these words deleted."""
    edits: History = [{}, {word: Edit(editing.DELETE) for word in words}]
    st.session_state.update(edits_of=document, edits=edits, undone=[])
    choosing.go_to(state.WHAT_IF)


def _show(checkpoint: Checkpoint, document: Document, trace: Trace, *, scale: float) -> None:
    st.caption(
        "Click a word, say what should happen to it, and press Apply. The text on the page stays as it is: edits hold "
        "for this view, until another text is chosen."
    )
    drawn = join_words(trace)
    history = _history(document)
    token = player.show(drawing.drawn(drawn, [drawing.layers_panel(drawn)]), key="player-edit")
    word = int(drawn.words[token]) if token is not None else -1
    _controls(document, word if word >= 0 else None, history)
    edits = history[-1]
    if edits:
        _difference(checkpoint, document, trace, edits, scale=scale)
    _faithfulness(checkpoint, document, scale=scale)


def _history(document: Document) -> History:
    """The edits of this text; those of another one are forgotten."""
    remembered = st.session_state
    if remembered.get("edits_of") != document:
        remembered.update(edits_of=document, edits=[{}], undone=[])
    history: History = remembered.edits
    return history


def _controls(document: Document, word: int | None, history: History) -> None:
    kind = st.pills(
        "What happens to the word",
        editing.KINDS,
        default=editing.DELETE,
        key="what",
        required=True,
        persist_state="session",
        help="Keep always and Drop at once overrule its score: it stays at every layer, or is among the first to go.",
    )
    if kind == editing.REPLACE:
        st.text_input("Replace it by", key="with", max_chars=200, persist_state="session")
    chosen = "no word is chosen" if word is None else f"chosen: {document.words[word]}"
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Apply",
            key="apply",
            type="primary",
            disabled=word is None,
            on_click=_edit,
            args=[word],
        )
        st.button("Undo", key="undo", disabled=len(history) < 2, on_click=_undo)
        st.button("Redo", key="redo", disabled=not st.session_state.undone, on_click=_redo)
        st.button("Start over", key="reset", disabled=not history[-1], on_click=_apply, args=[None, None])
        st.caption(common.literal(chosen))


def _edit(word: int) -> None:
    """What the controls say now: a replacement that is typed arrives together with the click on Apply, later than what
    was drawn. Nothing in the word's place deletes it."""
    kind = str(st.session_state.what)
    text = " ".join(str(st.session_state.get("with") or "").split()[: editing.MOST_WORDS])
    if kind != editing.REPLACE:
        _apply(word, Edit(kind))
    else:
        _apply(word, Edit(kind, text) if text else Edit(editing.DELETE))


def _apply(word: int | None, edit: Edit | None) -> None:
    """One edit more; without a word, no edits at all."""
    remembered = st.session_state
    edits = {} if word is None or edit is None else {**remembered.edits[-1], word: edit}
    remembered.edits = [*remembered.edits, edits]
    remembered.undone = []


def _undo() -> None:
    remembered = st.session_state
    remembered.undone = [*remembered.undone, remembered.edits[-1]]
    remembered.edits = remembered.edits[:-1]


def _redo() -> None:
    remembered = st.session_state
    remembered.edits = [*remembered.edits, remembered.undone[-1]]
    remembered.undone = remembered.undone[:-1]


def _difference(
    checkpoint: Checkpoint, document: Document, trace: Trace, edits: dict[int, Edit], *, scale: float
) -> None:
    said = "; ".join(edit.said(document.words[word]) for word, edit in sorted(edits.items()))
    st.header("Before and after")
    st.caption(common.literal(said))
    if checkpoint.tokenizer.mask_token is None and any(edit.kind == editing.MASK for edit in edits.values()):
        st.caption("This tokenizer has no mask token: a masked word is deleted.")
    if not editing.apply(document.words, document.rationale, edits, mask=checkpoint.tokenizer.mask_token).words:
        st.info("No word is left.")
        return
    try:
        after, edited = results.load_edited(checkpoint, document, tuple(sorted(edits.items())), threshold_scale=scale)
    except AdapLeRError as error:  # what is left gives no wordpieces
        common.problem(error)
        return
    st.html(cards.before_after(trace, after))
    common.cut(after)
    gained, lost = editing.changed(trace, after, edited.origin)
    now, before = [edited.at(word) for word in gained], [document.words[word] for word in lost]
    for what, words in (("Now read to the end", now), ("No longer read to the end", before)):
        st.markdown(f"**{what}:** {common.literal(', '.join(words) or 'no word')}")
    joined = join_words(after)
    forced = [int(edited.fate[word]) if word >= 0 else 0 for word in joined.words.tolist()]
    panel = drawing.layers_panel(joined) | {"forced": forced}
    player.show(drawing.drawn(joined, [panel]), key="player-after")


def _faithfulness(checkpoint: Checkpoint, document: Document, *, scale: float) -> None:
    with st.expander("Faithfulness of the scores on this text", key="faithful", on_change="rerun") as place:
        if not place.open:
            return  # ten passes a method
        methods = tuple(state.chosen_methods())
        table, whole, label = results.load_faithfulness(checkpoint, document, methods, threshold_scale=scale)
        measures = [str(name) for name in table.select_dtypes("number")]
        table = table.assign(**{name: table[name].round(3) + 0.0 for name in measures})  # + 0.0: no -0.000
        numbers = st.column_config.NumberColumn(format="%.3f")
        st.dataframe(
            table,
            hide_index=True,
            column_config={
                "comprehensiveness": st.column_config.NumberColumn(
                    format="%.3f", help="What the class loses without the best 20 % of the tokens: higher is better."
                ),
                "sufficiency": st.column_config.NumberColumn(
                    format="%.3f", help="What it loses with these tokens alone: lower is better."
                ),
                "AOPC comprehensiveness": numbers,
                "AOPC sufficiency": numbers,
            },
        )
        st.caption(
            common.literal(
                f"Without removal the whole text is {label} with probability {whole:.3f}; each number is what tokens "
                "taken away cost of it. AOPC: the mean over the best 1, 5, 10, 20 and 50 %. The methods are those of "
                "Compare methods that take few passes, with their scores at layer 0."
            )
        )

"""View *What if*: words deleted, masked, replaced, or forced to be kept or dropped, and the effect."""

from __future__ import annotations

import streamlit as st

from adapler.errors import AdapLeRError
from app import context as shared
from app import edits as editing
from app import loading, markup, player
from app.context import KEPT, Context
from app.documents import Document
from app.edits import Edit, History
from app.joining import join_words
from app.tracing import Trace


def render(context: Context) -> None:
    context.head.html(
        markup.title("What if?", "Click a word, say what should happen to it, and press Apply. The text itself stays.")
    )
    context.read()
    st.fragment(_show)(context)
    st.caption(markup.literal(context.subject()))


def _show(context: Context) -> None:
    document, trace = context.read()
    history = editing.history_of(document)
    editing.tell(history[-1])
    drawn = join_words(trace)
    controls, result, text = st.container(), st.container(), st.container()
    with text:
        token = player.show(player.drawn(drawn, [player.layers_panel(drawn)]), key="player-edit")
    word = int(drawn.words[token]) if token is not None and drawn.words[token] >= 0 else None
    with controls:
        _controls(document, word, history)
    if history[-1]:
        with result:
            _difference(context, document, trace, history[-1])


def _controls(document: Document, word: int | None, history: History) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        kind = st.pills("What happens", editing.KINDS, default=editing.DELETE, key="what", required=True, **KEPT)
        if kind == editing.REPLACE:
            st.text_input("by", key="with", max_chars=200, width=160, **KEPT)
        label = "Apply" if word is None else markup.literal(f"Apply to {document.words[word]}")
        st.button(label, key="apply", disabled=word is None, on_click=_edit, args=[word])
        st.button("Undo", key="undo", disabled=len(history) < 2, on_click=_undo)
        st.button("Redo", key="redo", disabled=not st.session_state.undone, on_click=_redo)
        st.button("Start over", key="reset", disabled=not history[-1], on_click=_apply, args=[None, None])


def _edit(word: int) -> None:
    """Apply the edit that the controls describe: a typed replacement arrives together with the click on Apply, after
    the page was drawn. An empty replacement deletes the word."""
    kind = str(st.session_state.what)
    text = " ".join(str(st.session_state.get("with") or "").split()[: editing.MOST_WORDS])
    _apply(word, Edit(editing.DELETE) if kind == editing.REPLACE and not text else Edit(kind, text))


def _apply(word: int | None, edit: Edit | None) -> None:
    """One edit more; without a word, no edits at all."""
    kept = st.session_state
    edits = {} if word is None or edit is None else {**kept.edits[-1], word: edit}
    kept.update(edits=[*kept.edits, edits], undone=[])


def _undo() -> None:
    kept = st.session_state
    kept.update(undone=[*kept.undone, kept.edits[-1]], edits=kept.edits[:-1])


def _redo() -> None:
    kept = st.session_state
    kept.update(edits=[*kept.edits, kept.undone[-1]], undone=kept.undone[:-1])


def _difference(context: Context, document: Document, trace: Trace, edits: dict[int, Edit]) -> None:
    checkpoint = context.model
    said = "; ".join(edit.said(document.words[word]) for word, edit in sorted(edits.items()))
    st.caption(markup.literal(said))
    if checkpoint.tokenizer.mask_token is None and any(edit.kind == editing.MASK for edit in edits.values()):
        st.caption("This tokenizer has no mask token: a masked word is deleted.")
    if not editing.apply(document.words, document.rationale, edits, mask=checkpoint.tokenizer.mask_token).words:
        st.info("No word is left.")
        return
    try:
        after, edited = loading.load_edited(
            checkpoint, document, tuple(sorted(edits.items())), threshold_scale=context.scale
        )
    except AdapLeRError as error:  # what is left gives no wordpieces
        shared.problem(error)
        return
    st.html(markup.before_after(trace, after, names=("before", "after")))
    gained, lost = editing.changed(trace, after, edited.origin)
    now, before = [edited.at(word) for word in gained], [document.words[word] for word in lost]
    for what, words in (("Now read to the end", now), ("No longer read to the end", before)):
        st.markdown(f"**{what}:** {markup.literal(', '.join(words) or 'no word')}")
    joined = join_words(after)
    forced = [int(edited.fate[word]) if word >= 0 else 0 for word in joined.words.tolist()]
    with st.expander("The edited text, layer by layer"):
        panel = player.layers_panel(joined) | {"forced": forced}
        player.show(player.drawn(joined, [panel]), key="player-after")

"""What a session remembers: the keys of the page's widgets, and the address that restores them.

Every interactive widget has one of these keys, which is also its class `.st-key-KEY` in the browser:

    everywhere      view checkpoint dtype source corpus split document scale part talk about tour tour-back tour-next
                    tour-close; without any checkpoint: stop make
    own text        text query upload row rows verdicts-open save-verdicts
    Layer by layer  show units player player-talk without survey stop-survey elsewhere
    Compare         methods run-METHOD stop-method player-compare
    Side by side    differs scale2 checkpoint2 document2 text2 player-sides
    What if         what with apply undo redo reset player-edit player-after faithful
    Budget          scale measure of-split curves-open save-curves
    Trust           scale measured survey stop-survey changed sure wrong
    Corpus          report figure metric method other at order label only length documents open open-document
                    save-report limit evaluate stop-job-NUMBER use-checkpoint
    Take away       save-png save-svg save-pdf save-gif save-mp4 save-csv save-html save-scores lines layers begins
                    figure-key

Those of ADDRESS stand in the page's address, by Streamlit's own binding: reload, Back and a copied address restore
them. What is left out there has its default. The layer stands there too, see app/markup/static/address.js.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

import streamlit as st

VIEWS = LAYERS, COMPARE, SIDES, WHAT_IF, BUDGET, TRUST, CORPUS, TAKE_AWAY, HOW = (
    "Layer by layer",
    "Compare methods",
    "Side by side",
    "What if",
    "Budget",
    "Trust",
    "Corpus",
    "Take away",
    "How it works",
)
OWN_VIEW = "Your text"  # a view of earlier versions, in old links: now a source
SOURCES = REVIEW, OWN_TEXT = "A review", "Your own text"
UNITS = WORDPIECES, WORDS, SENTENCES = "Wordpieces", "Words", "Sentences"  # what the text is shown in
SHOWS = ONE_LAYER, ALL_LAYERS, NUMBERS = "One layer", "All layers", "Numbers"
DIFFERENCES = BY_SCALE, BY_CHECKPOINT, BY_TEXT, BY_EDIT = "Threshold scale", "Checkpoint", "Text", "Edited text"
ORDERS = BEST, WORST, DISAGREEMENT = "Best first", "Worst first", "Largest disagreement"
DEFAULT_METHODS = ("cp", "saliency", "attention", "rollout")
MAX_METHODS = 6
FORMATS = ("float32", "bfloat16", "auto")  # number formats of a model, the default first
MAX_SCALE = 2.0
SCALE_FORMAT = "%.6g"  # as everything else on the page says it: an address or a report may have a scale between steps
OWN_TEXTS = {"text": "text", "query": "second text"}  # key -> what the reader calls it
LONG = {"text": "long", "query": "long-query"}  # what stands in the address instead of one that is too long
ADDRESS_CHARACTERS = 1500  # of a text: longer addresses are cut by mail programs and proxies
EXAMPLE = (
    "The first half hour is slow , and the plot could be told on a postcard . Then the two sisters meet on the ferry , "
    "nobody says a word for four minutes , and everything works : the acting is superb , the music is beautiful , and "
    "the film becomes one of the most moving things I have seen this year ."
)
ADDRESS = ("view", "checkpoint", "dtype", "source", "corpus", "split", "document", "part", "scale", "show", "units",
           "methods", "differs", "scale2", "checkpoint2", "document2", "text", "query", "talk")  # fmt: skip
NAMED = ("checkpoint", "corpus", "split", "document")  # what a server may not have
FIXED = {
    "view": (*VIEWS, OWN_VIEW),
    "dtype": FORMATS,
    "source": SOURCES,
    "show": SHOWS,
    "units": UNITS,
    "differs": DIFFERENCES,
}  # menus that are the same on every server


def begin(methods: Mapping[str, str]) -> None:
    """A session's first run notes what its address asks for, and understands addresses of earlier versions.

    methods: name -> title of every scoring method: titles stand in an address.
    """
    state = st.session_state
    if "asked" in state:
        return
    asked = {name: st.query_params.get_all(name) for name in st.query_params}
    one = {name: values[-1] for name, values in asked.items() if values}
    state.update(asked=one, lost=[])
    if one.get("view") == OWN_VIEW:
        state.source = OWN_TEXT
    if one.get("joined") == "true" and "units" not in one:
        state.units = WORDS
    if "text" in one and "source" not in one:
        state.source = OWN_TEXT
    named = dict.fromkeys(asked.get("method", ()))
    known = {*methods, *methods.values()}
    titled = {title: name for name, title in methods.items()}
    for chosen in (
        [name for name in named if name in methods],
        [titled[title] for title in dict.fromkeys(asked.get("methods", ())) if title in titled],
    ):
        if chosen:
            state.methods = chosen[:MAX_METHODS]  # other views go by it too, where its menu is not drawn
            beyond = [methods[name] for name in chosen[MAX_METHODS:]]
            state.lost += [f"method {title}, beyond the {MAX_METHODS} that are compared" for title in beyond]
    for key in ("units", "show", "differs"):
        if one.get(key) in FIXED[key]:
            state[key] = one[key]
    state.lost += [_asked("method", name) for name in (*named, *asked.get("methods", ())) if name not in known]
    state.lost += [_asked(key, one[key]) for key, options in FIXED.items() if key in one and one[key] not in options]
    for key in ("scale", "scale2"):
        if key in one and not _is_scale(one[key]):
            state.lost.append(_asked("threshold scale", one[key]))
    for key, good in (("talk", _is_flag), ("part", _is_part), ("layer", _is_layer)):
        if key in one and not good(one[key]):
            lose(key)
    state.lost += [f"a {what} that was too long for an address" for key, what in OWN_TEXTS.items() if LONG[key] in one]


def _is_scale(text: str) -> bool:
    """Whether a slider takes it: of any other, Streamlit keeps the default without a word."""
    try:
        return 0 <= float(text) <= MAX_SCALE
    except ValueError:
        return False


def _is_flag(text: str) -> bool:
    return text.lower() in ("true", "false")


def _is_part(text: str) -> bool:
    return _is_whole(text, least=1)


def _is_layer(text: str) -> bool:
    return _is_whole(text, least=0)


def _is_whole(text: str, *, least: int) -> bool:
    try:
        return float(text) >= least and float(text).is_integer()
    except ValueError:
        return False


def lose(key: str) -> None:
    """What a session's address asks for with `key` is not here: it is said, and goes out of the address, where no
    widget is bound to it yet."""
    state = st.session_state
    state.lost.append(_asked(key, state.asked.pop(key)))
    st.query_params.pop(key, None)


def part_of(parts: int) -> None:
    """To be called when it is known of how many parts the text is: in a session's first run, a part that it does not
    have is lost."""
    _within("part", last=parts)


def layer_of(layers: int) -> None:
    """As `part_of`, when it is known how many layers there are."""
    _within("layer", last=layers - 1)


def _within(key: str, *, last: int) -> None:
    asked = st.session_state.asked.get(key)
    if asked is None:
        return
    if float(asked) > last:
        lose(key)
    else:
        del st.session_state.asked[key]


def found(key: str, options: Collection[Any]) -> None:
    """To be called before a menu is drawn: in a session's first run, what the address asks for and the menu does not
    have is lost; a name of an earlier choice that another corpus does not have is forgotten."""
    state = st.session_state
    asked = state.asked.pop(key, None)
    if asked is not None and asked not in options:
        state.lost.append(_asked(key, asked))
    if key in state and state[key] not in options:
        del state[key]


def fits_address(key: str) -> bool:
    """Whether a text is short enough to stand in the page's address."""
    return len(st.session_state.get(key) or "") <= ADDRESS_CHARACTERS


def too_long() -> list[str]:
    """Which of one's own texts are, for the address, as the reader calls them."""
    return [what for key, what in OWN_TEXTS.items() if not fits_address(key)]


def bind_text(key: str) -> bool:
    """Whether a text is bound to the address in this run, see `fits_address`; to be called before its widget is drawn.

    The browser writes a text into the address when it changes while it is bound: of one that comes after a text that
    was too long it would know nothing, so that is written here, while nothing is bound yet.
    """
    state, fits = st.session_state, fits_address(key)
    if fits and f"{key} was long" in state:
        del state[f"{key} was long"]
        if state.get(key):
            st.query_params[key] = state[key]
        st.query_params.pop(LONG[key], None)
    elif not fits:
        state[f"{key} was long"] = True
    return fits


def chosen_methods() -> list[str]:
    """Those of the comparison, whether it has been looked at or not."""
    return list(st.session_state.get("methods", DEFAULT_METHODS))


def _asked(key: str, value: str) -> str:
    """What an address asked for, to be shown: a stranger has written it, so only what looks like a name is repeated."""
    return f"{key} {value}" if re.fullmatch(r"[\w.() -]{1,60}", value) else f"a {key} of another name"


def lost() -> list[str]:
    """What the session's address asks for and this server does not have, while the page shows what it opened on.

    Call it where the menus of the sidebar are drawn.
    """
    state = st.session_state
    file = getattr(state.get("upload"), "file_id", None)
    text = (file, *(state.get(key) for key in ("source", "text", "query", *NAMED)))
    shown = (text, state.get("view"), state.get("scale"))
    opened, state.opened = state.setdefault("opened", shown), shown
    if opened != shown:
        state.lost = []
    if opened[0] != text:
        for key in ("part", "layer"):  # of the text that was opened; a view without a text has not looked for them
            state.asked.pop(key, None)
    return list(state.lost)


def link(base: str, parameters: Mapping[str, Any]) -> str:
    """An address with these parameters, whatever parameters `base` has."""
    return f"{base.partition('?')[0]}?{urlencode(parameters, doseq=True)}"


def link_parameters(titles: Mapping[str, str], *, view: str) -> dict[str, Any]:
    """What an address needs to show this again in `view`; titles: of the methods."""
    state = st.session_state
    own = state.source == OWN_TEXT
    left_out = {"talk", "view", *(("corpus", "split", "document") if own else ("text", "query"))}
    parameters: dict[str, Any] = {"view": view}
    for key in ADDRESS:
        value = state.get(key)
        usual = {"part": 1, "dtype": FORMATS[0]}.get(key)
        nothing = value is None or value is False or value == ""  # a scale of 0 is something, and equals False
        if key not in left_out and not nothing and value != usual:
            parameters[key] = value if not isinstance(value, bool) else "true"
    parameters["methods"] = [titles[name] for name in chosen_methods()]
    for key in ("text", "query"):
        if not fits_address(key) or state.get("upload") is not None:  # a file is shown, and not the text beside it
            parameters.pop(key, None)
    if layer := st.query_params.get("layer"):
        parameters["layer"] = layer
    return parameters


def fit(key: str, options: Sequence[Any], *, default: Any = None) -> None:
    """A menu's value must be one of its options: where it is not any more, `default`, or else the first."""
    state = st.session_state
    if options and state.get(key) not in options:
        state[key] = default if default in options else options[0]

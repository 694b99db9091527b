"""Locks that all sessions of a server share."""

from __future__ import annotations

from threading import Lock
from typing import Any

import streamlit as st


@st.cache_resource(show_spinner=False)
def working() -> Any:
    """Held while a job runs beside the page, whoever's it is."""
    return Lock()


@st.cache_resource(show_spinner=False)
def drawing() -> Any:
    """Held while matplotlib draws: its settings are the process's, not the thread's."""
    return Lock()

"""Colours of charts, which stay apart in every common colour blindness and on light and dark ground."""

LINES = ("#c96f00", "#0072b2", "#009e73", "#c2185b", "#7b5ea7", "#8a8f99")
GOLD = "#3b8fe0"  # the human rationale

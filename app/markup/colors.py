"""Colours of charts, which stay apart in every common colour blindness. On light and on dark ground each has a contrast
of 3 to 1 or more (WCAG 1.4.11), where it is drawn opaque."""

LINES = ("#c96f00", "#0072b2", "#009e73", "#c2185b", "#7b5ea7", "#8a8f99")
GOLD = "#3b8fe0"  # the human rationale

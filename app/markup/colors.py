"""Colours of charts, which stay apart in every common colour blindness. Each has a
contrast of 3 to 1 or more on both (WCAG 1.4.11), but only opaque: what is drawn half through has not."""

LINES = ("#c96f00", "#0072b2", "#009e73", "#c2185b", "#7b5ea7", "#8a8f99")
GOLD = "#3b8fe0"  # the human rationale

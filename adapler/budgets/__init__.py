"""From a speed, a drop of the score or a time to a threshold scale, by a curve that was measured beforehand.

curve holds what was measured and picks from it, stored is its file beside the model, machine says what it ran on.
"""

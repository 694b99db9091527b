"""Texts with tokens taken away, and the best and worst that taking them away can do."""

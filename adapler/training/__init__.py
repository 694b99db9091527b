"""Training.

stages/ has one file for each command; settings and recipes say what is trained, records and resume what was.
trainer runs the steps: losses, schedule (of the soft removal), averaging and selection are its parts.
"""

"""Training.

stages/ has one file for each command. settings, target_settings and recipes say what is trained, records and resume
what was. trainer/ runs the steps, with losses, schedule (of the soft removal), averaging and selection.
"""

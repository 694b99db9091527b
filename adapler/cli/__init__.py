"""The command `adapler`.

parser lists the commands, options makes their options from the settings, commands runs them.
predict (with predict_model and predict_output) classifies files of texts; tradeoff collects runs in one table.
"""

"""The command `adapler`.

parser lists the commands, options makes their options from the settings, commands runs them.
predict classifies files of texts (its work is in adapler.predict); tradeoff collects runs in one table.
"""

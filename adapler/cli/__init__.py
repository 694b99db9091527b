"""The command `adapler`."""

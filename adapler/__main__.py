"""`python -m adapler` and `torchrun -m adapler` are the command `adapler`."""

from adapler.cli import entry

if __name__ == "__main__":
    entry()

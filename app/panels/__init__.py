"""The parts of the page, each a module of functions that draw it; what they draw comes in as an argument."""

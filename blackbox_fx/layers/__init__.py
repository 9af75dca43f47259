"""Torch modules that render through effects: one effect, several in series or side by side, a console."""

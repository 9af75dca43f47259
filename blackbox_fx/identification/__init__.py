"""Finds the net that an effect is, and the laws by which its numbers follow from the parameters."""

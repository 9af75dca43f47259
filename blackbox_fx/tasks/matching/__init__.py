"""Matching: the settings of a chain of effects that make one recording sound like another."""

"""Wet stems made as their role is on average, so that they stand in for dry ones."""

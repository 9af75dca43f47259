"""Sessions of Ardour, written and read."""

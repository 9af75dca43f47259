"""The commands of `blackbox-fx bench`."""

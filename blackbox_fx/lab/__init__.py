"""Measurements, run by `blackbox-fx bench`."""

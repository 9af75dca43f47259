"""Scores of a proxy on held-out clips and settings."""

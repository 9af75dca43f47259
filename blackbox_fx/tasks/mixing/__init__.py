"""Mixing: a network sets a console so that its mix sounds like an engineer's."""

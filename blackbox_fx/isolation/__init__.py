"""Processes that may crash or hang: what they may use, and how to get an answer from one."""

import lazy_loader

# The public names stand in __init__.pyi. They load on first use, so that what answers imports little.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

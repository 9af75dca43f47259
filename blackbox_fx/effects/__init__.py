"""Effects, each behind `Effect.render`. Nothing here imports torch, nor a host before it is used."""

import lazy_loader

# The public names stand in __init__.pyi. They load on first use, so that what examines a plugin imports little.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

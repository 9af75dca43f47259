"""Train networks through audio effects that cannot be differentiated.

>>> import blackbox_fx as bfx
>>> bfx.load("pedalboard:Compressor").only("threshold_db", "ratio")
pedalboard:Compressor(threshold_db, ratio)
"""

import lazy_loader

__version__ = "0.1.0"

# The public names stand in __init__.pyi. They load on first use, so that a worker process never pays for torch.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

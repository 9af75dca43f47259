"""The bytes that name an object: equal for equal recipes, wherever the classes of this package live."""

from __future__ import annotations

import io
import pickle
import sys
from typing import Any, final

import cloudpickle

from blackbox_fx.space.parameters import Parameter

_PACKAGE = __name__.partition(".")[0] + "."


@final
class _Pickler(cloudpickle.Pickler):
    """Names what this package defines by its qualified name alone, so that moving a module changes no fingerprint.

    Equal texts, and equal parameters, are written as one object: it does not matter which of them were one before.
    """

    def persistent_id(self, obj: Any) -> str | None:
        if type(obj) is str or isinstance(obj, Parameter):
            return sys.intern(repr(obj))
        module = getattr(obj, "__module__", None)
        own = isinstance(module, str) and module.startswith(_PACKAGE)
        name = getattr(obj, "__qualname__", None)
        return name if own and isinstance(name, str) and "<locals>" not in name else None


def canonical(obj: Any) -> bytes:
    """Bytes that depend on what an object pickles to."""
    # pickled once more: of a copy, other strings may be the same object, which shows in the bytes
    copy = pickle.loads(cloudpickle.dumps(obj))
    buffer = io.BytesIO()
    _Pickler(buffer).dump(copy)
    return buffer.getvalue()

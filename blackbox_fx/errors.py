"""The errors of blackbox_fx. Each message is one sentence: the problem, the value, what is allowed, and what to do.

- `BlackBoxError`: the base of all.
    - `ParameterError`: an unknown parameter name, or a value outside its range. It is also a ValueError.
    - `AudioError`: audio of the wrong shape, type, length or sample rate, or not finite. It is also a ValueError.
    - `DataError`: a folder, song, preset or checkpoint that cannot be used. It is also a ValueError.
    - `EffectError`: an effect that cannot be loaded, or that failed while rendering.
        - `MissingHost`: the Python package that hosts this kind of effect is not installed.
        - `NotFinite`: an effect returned NaN or infinity.
    - `WorkerDied`: a worker process ended during a render, twice at the same job.
    - `RenderTimeout`: a render exceeded its deadline, twice at the same job. It is also a TimeoutError.
"""

import difflib
from collections.abc import Iterable


class BlackBoxError(Exception):
    """Base of all errors of this package."""


class ParameterError(BlackBoxError, ValueError):
    """An unknown parameter name, or a value outside its range."""


class AudioError(BlackBoxError, ValueError):
    """Audio of the wrong shape, type, length or sample rate, or audio that is not finite."""


class DataError(BlackBoxError, ValueError):
    """A folder, song, preset or checkpoint that cannot be used."""


class EffectError(BlackBoxError):
    """An effect that cannot be loaded, or that failed while rendering."""


class MissingHost(EffectError):
    """The Python package that hosts this kind of effect is not installed."""


class NotFinite(EffectError):
    """An effect returned NaN or infinity."""


class WorkerDied(BlackBoxError):
    """A worker process ended during a render, twice at the same job."""


class RenderTimeout(BlackBoxError, TimeoutError):
    """A render exceeded its deadline, twice at the same job."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question about known names that are spelt like this one, in any case, as " (did you mean A or B?)", or ""."""
    spelt: dict[str, str] = {}
    for other in known:
        spelt.setdefault(other.lower(), other)
    near = [spelt[word] for word in difflib.get_close_matches(name.lower(), spelt, 3, 0.6)]
    return f" (did you mean {' or '.join(near)}?)" if near else ""

"""Further inputs as calls give them: by name, once, and with one channel or two."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from blackbox_fx.errors import AudioError, ParameterError

MOST_CHANNELS = 2
_log = logging.getLogger("blackbox_fx")
_said: set[str] = set()  # effects of which it was said that an input is left out


def gather(inputs: Any, named: Mapping[str, Any], known: Sequence[str]) -> dict[str, Any]:
    """Further inputs of a mapping and of keywords, by name.

    Args:
        inputs: the mapping.
        named: the keywords.
        known: what inputs there are.

    Raises:
        ParameterError: something else than a mapping, or an input that is in both.
    """
    if not isinstance(inputs, Mapping):
        raise ParameterError(
            f"A further input must have a name, and {type(inputs).__name__} as inputs has none; write "
            f"{keyword(known[0] if known else 'sidechain')}."
        )
    if twice := [name for name in inputs if name in named]:
        raise ParameterError(f"The input {twice[0]!r} is given twice, in inputs and by its name; leave one out.")
    return {**inputs, **named}


def keyword(name: str) -> str:
    """How a call gives this input, as Python text."""
    return f"{name}=..." if name.isidentifier() else f'inputs={{"{name}": ...}}'


def check_names(effect: str, given: Iterable[str], known: Sequence[str]) -> None:
    """Raises ParameterError unless all given inputs are known ones of an effect."""
    for name in given:
        if name not in known:
            raise ParameterError(f"{effect} has no input {name!r}; known are {', '.join(known) or 'none'}.")


def check_channels(effect: str, name: str, channels: int) -> None:
    """Raises AudioError unless an input of an effect has one channel or two."""
    if channels > MOST_CHANNELS:
        raise AudioError(
            f"The input {name} of {effect} has {channels} channels, and must have one or two; give it their mean."
        )


def say_silent(effect: str, silent: Sequence[str], how: str = "") -> None:
    """Says which inputs of an effect are left out, once for each name of an effect in this process.

    Args:
        effect: its name.
        silent: names of the inputs.
        how: what would give them, as Python text; their names if not given.
    """
    if silent and effect not in _said:
        _said.add(effect)
        how = how or " and ".join(map(keyword, silent))
        _log.warning(
            "%s gets silence on its input %s; write %s if it is to hear something.", effect, " and ".join(silent), how
        )

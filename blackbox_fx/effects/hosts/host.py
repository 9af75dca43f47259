"""What the library knows about a host: how it loads effects, what is installed for it, and how to try it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, final

from blackbox_fx.audio import Audio
from blackbox_fx.effects.base import Effect
from blackbox_fx.errors import EffectError


class Several(EffectError):
    """A file holds several effects; `addresses` name each."""

    def __init__(self, text: str, addresses: Sequence[str]) -> None:
        super().__init__(text)
        self.addresses = tuple(addresses)


@final
@dataclasses.dataclass(frozen=True)
class Entry:
    """An effect that seems to be installed.

    Args:
        address: for `load`.
        files: that it consists of; when one changes, it is read again.
        refusal: why it is no effect, as the end of a sentence that begins with "it"; empty if it may be one.
        parameters: how many it has, where that is known without loading it.
    """

    address: str
    files: tuple[Path, ...] = ()
    refusal: str = ""
    parameters: int | None = None


@final
@dataclasses.dataclass(frozen=True)
class Host:
    """Everything that is known about one host.

    A host module ends with one of these, called `HOST`, and is named in one line of `blackbox_fx.effects.hosts`.

    Args:
        name: what stands before the colon of an address.
        effect: makes an effect from what stands behind the colon, and from options by name.
        example: an address.
        package: the Python package that hosts, whose version is part of what was measured.
        extra: the extra of this package that installs it; empty if it comes along.
        debian: Debian packages that bring effects for it.
        endings: of the files that it loads, for addresses that are a path alone.
        installed: lists what is installed, from names alone; None where nothing can be listed.
        bare: for an effect of this host, clips (channel, time) and a sample rate in Hz, the host's own call that one
            render comes down to; None where there is no such call.
    """

    name: str
    effect: Callable[..., Effect]
    example: str
    package: str = "blackbox_fx"
    extra: str = ""
    debian: tuple[str, ...] = ()
    endings: tuple[str, ...] = ()
    installed: Callable[[], list[Entry]] | None = None
    bare: Callable[[Any, Audio, float], Callable[[], Any]] | None = None


def entries_of_files(host: str, paths: Sequence[Path], names: Sequence[str], folders: Collection[Path]) -> list[Entry]:
    """Entries for plugin files: by name where that is unique and lies directly in a known folder, otherwise by path."""
    counts = Counter(names)
    found = []
    for path, name in zip(paths, names, strict=True):
        short = path.parent in folders and counts[name] == 1
        files = (path,) if path.is_file() else tuple(sorted(p for p in path.rglob("*") if p.is_file()))
        found.append(Entry(f"{host}:{name if short else path}", files))
    return found

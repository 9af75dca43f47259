"""What is installed, from names alone; and what each effect is, read in processes of their own."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import queue
import threading
import time
from collections.abc import Callable, Collection, Generator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from typing import Any, final

from blackbox_fx import isolation
from blackbox_fx.core import cache, files
from blackbox_fx.effects import hosts
from blackbox_fx.effects.hosts.host import Entry
from blackbox_fx.errors import ParameterError

READER = "blackbox_fx.effects.scan_reader"
_FORMAT = 1
_DEADLINE = 180.0  # seconds of silence; the hosts' own deadlines are shorter
_BATCH = 8  # effects that one process reads, unless one of them ends it
_DAY = 86_400.0  # seconds after which what could not be used is tried again: what it needs may be there then


@final
@dataclasses.dataclass(frozen=True)
class Scanned:
    """An effect as `scan` found it.

    Args:
        address: for `load`.
        channels: that go through it at once, 1 or 2; None if it takes any number, or cannot be used.
        parameters: how many it has that can be used; None if it cannot be used.
        latency: in samples; it is compensated. None if the effect does not report it.
        why: why it cannot be used, one sentence; empty if it can.
    """

    address: str
    channels: int | None = None
    parameters: int | None = None
    latency: int | None = None
    why: str = ""

    @property
    def host(self) -> str:
        """Such as "vst3"."""
        return self.address.partition(":")[0]


@functools.cache
def listing_hosts() -> tuple[str, ...]:
    """The hosts whose installed effects can be listed."""
    return tuple(name for name in hosts.NAMES if hosts.find_host(name).installed)


def _listed(names: Collection[str] | None, match: str) -> dict[str, list[Entry]]:
    known = listing_hosts()
    chosen = known if names is None else names
    if unknown := [name for name in chosen if name not in known]:
        raise ParameterError(f"Unknown host {unknown[0]!r}; known are {', '.join(known)}.")
    word = match.lower()
    found = {name: hosts.find_host(name).installed() for name in known if name in chosen}
    return {name: [e for e in entries if word in e.address.lower()] for name, entries in found.items()}


def installed(names: Collection[str] | None = None, match: str = "") -> dict[str, list[str]]:
    """Addresses of what seems to be installed, by host, from names alone: no plugin is loaded.

    LADSPA libraries report their names only when they are loaded, so new ones are loaded once, in processes of their
    own. What is no effect, such as an instrument, is known for LADSPA only, and left out there. A file that holds
    several plugins is listed as one until it was read.

    Args:
        names: of hosts; all whose effects can be listed if not given.
        match: what the address has in it, in any case.

    Raises:
        ParameterError: an unknown host.
    """
    return {name: [e.address for e in entries if not e.refusal] for name, entries in _listed(names, match).items()}


def scan(names: Collection[str] | None = None, match: str = "", workers: int = 2) -> Generator[Scanned, None, None]:
    """Reads what is installed, each in a process that may crash or hang; those that were read before come first.

    What was read is kept in the user's cache until the file or its host changes, and why something cannot be used for
    a day. An iteration that is left early ends its processes and keeps what it has.

    Args:
        names: of hosts; all whose effects can be listed if not given.
        match: what the address has in it, in any case.
        workers: processes at a time.

    Yields:
        One `Scanned` for each effect that `installed` lists, for each plugin in a file that turns out to hold several,
        and for LADSPA plugins that are none.

    Raises:
        ParameterError: an unknown host.
    """
    new: list[Entry] = []
    for entry in (e for entries in _listed(names, match).values() for e in entries):
        found = _known(entry)
        if found:
            yield from found
        else:
            new.append(entry)
    batches: queue.SimpleQueue[list[Entry]] = queue.SimpleQueue()
    size = max(1, min(_BATCH, -(-len(new) // workers)))
    for k in range(0, len(new), size):
        batches.put(new[k : k + size])
    results: queue.SimpleQueue[Scanned | None] = queue.SimpleQueue()
    stop = threading.Event()

    def work() -> None:
        try:
            while not stop.is_set() and not batches.empty():
                _read(batches.get(timeout=1), stop, results.put)
        except queue.Empty:
            pass
        finally:
            results.put(None)

    with ThreadPoolExecutor(workers) as executor:
        working = [executor.submit(work) for _ in range(workers)]
        try:
            for _ in working:
                yield from iter(results.get, None)
        finally:
            stop.set()
        for future in working:
            future.result()


@functools.cache
def _versions() -> list[str]:
    found: list[str] = []
    for package in sorted({hosts.find_host(name).package for name in hosts.NAMES}):
        with contextlib.suppress(PackageNotFoundError):
            found.append(f"{package} {version(package)}")
    return found


def _key(entry: Entry) -> dict[str, Any]:
    return {"format": _FORMAT, "address": entry.address, "files": files.digest(*entry.files), "hosts": _versions()}


def _known(entry: Entry) -> list[Scanned]:
    """What is known of an effect without running it; nothing if it is not known yet."""
    if entry.parameters is not None:
        return [Scanned(entry.address, parameters=entry.parameters)]
    if entry.refusal:
        return [Scanned(entry.address, why=f"It {entry.refusal}.")]
    try:
        kept = cache.load("scan", _key(entry))
    except OSError as error:
        return [Scanned(entry.address, why=f"Cannot read {error.filename} ({error.strerror}); check the file.")]
    if kept is None or (kept["until"] is not None and kept["until"] < time.time()):
        return []
    return _scanned(entry.address, kept["found"])


def _scanned(address: str, found: dict[str, Any]) -> list[Scanned]:
    """What was read, as one for each effect in a file."""
    several = found.get("several", {address: found})
    return [Scanned(each, **{k: v for k, v in read.items() if k != "lasts"}) for each, read in several.items()]


def _read(batch: list[Entry], stop: threading.Event, give: Callable[[Scanned], None]) -> None:
    left = list(batch)

    def receive(found: dict[str, Any]) -> None:
        entry = left.pop(0)
        lasts = found.pop("lasts")
        if lasts:
            until = time.time() + _DAY if found["why"] else None
            cache.save("scan", _key(entry), {"found": found, "until": until})
        for each in _scanned(entry.address, found):
            give(each)

    while left and not stop.is_set():
        before = len(left)
        try:
            isolation.call(READER, [e.address for e in left], _DEADLINE, receive, stop)
        except (isolation.Failed, isolation.Refused) as error:
            # one that comes later may have been hurt by those before it, and is tried first in another process
            if len(left) == before and not stop.is_set():
                reason = f"it {error}" if isinstance(error, isolation.Failed) else ": ".join(error.args)
                receive(
                    {"why": f"Cannot load {left[0].address} ({reason}).", "lasts": isinstance(error, isolation.Failed)}
                )

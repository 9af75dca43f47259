"""What is installed, from names alone; and what each effect is, read in processes of their own."""

from __future__ import annotations

import dataclasses
import functools
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple, final

from blackbox_fx import aside, cache
from blackbox_fx.effects import dawdreamer, ladspa_catalogue, lv2_bundles, vst3
from blackbox_fx.effects.pedalboard import BUILTINS
from blackbox_fx.errors import ParameterError

KINDS = ("pedalboard", "vst3", "vst2", "lv2", "ladspa")
_FORMAT = 1
_DEADLINE = 180.0  # seconds of silence; the hosts' own deadlines are shorter
_BATCH = 8  # effects that one process reads, unless one of them ends it
_DAY = 86_400.0  # seconds after which what could not be used is tried again: what it needs may be there then


@final
@dataclasses.dataclass(frozen=True)
class Scanned:
    """An effect as `scan` found it.

    Attributes:
        address: for `load`.
        channels: that go through it at once, 1 or 2; None if it takes any number, or cannot be used.
        parameters: how many it has that can be used; None if it cannot be used.
        latency: samples by which it delays, which are compensated; None if that is not told.
        why: why it cannot be used, one sentence; empty if it can.
    """

    address: str
    channels: int | None = None
    parameters: int | None = None
    latency: int | None = None
    why: str = ""

    @property
    def kind(self) -> str:
        """Of effect, such as "vst3"."""
        return self.address.partition(":")[0]


class _Entry(NamedTuple):
    address: str
    files: tuple[Path, ...] = ()
    why: str = ""


def _short(kind: str, paths: Sequence[Path], names: Sequence[str], folders: Collection[Path]) -> list[_Entry]:
    """Plugins by their names where those will do, and otherwise by their paths."""
    counts = Counter(names)
    found = []
    for path, name in zip(paths, names, strict=True):
        known = path.parent in folders and counts[name] == 1
        files = (path,) if path.is_file() else tuple(sorted(p for p in path.rglob("*") if p.is_file()))
        found.append(_Entry(f"{kind}:{name if known else path}", files))
    return found


def _entries(kind: str) -> list[_Entry]:
    if kind == "pedalboard":
        return [_Entry(f"pedalboard:{name}") for name in BUILTINS]
    if kind == "vst3":
        paths = vst3.installed()
        return _short(kind, paths, [path.stem for path in paths], vst3.search_path())
    if kind == "vst2":
        paths = dawdreamer.installed_vst2()
        return _short(kind, paths, [dawdreamer.vst2_name(path) for path in paths], dawdreamer.vst2_path())
    if kind == "lv2":
        found = lv2_bundles.bundles(dawdreamer.lv2_path())
        return [
            _Entry(f"lv2:{uri}", (bundle / "manifest.ttl", *sorted(bundle.glob("*.so"))))
            for uri, bundle in sorted(found.items())
        ]
    return [_Entry(address, (path,), layout.refusal) for address, path, layout in ladspa_catalogue.listed()]


def _listed(kinds: Collection[str], match: str) -> dict[str, list[_Entry]]:
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise ParameterError(f"Unknown kind of effect {unknown[0]!r}; known are {', '.join(KINDS)}.")
    word = match.lower()
    return {kind: [e for e in _entries(kind) if word in e.address.lower()] for kind in KINDS if kind in kinds}


def installed(kinds: Collection[str] = KINDS, match: str = "") -> dict[str, list[str]]:
    """Addresses of what seems to be installed, by kind, from names alone: no plugin is loaded.

    LADSPA libraries tell their names only when they are loaded, so new ones are, once, in processes of their own. What
    is no effect, such as an instrument, is known for LADSPA only, and left out there.

    Args:
        kinds: some of `KINDS`.
        match: what the address has in it, in any case.

    Raises:
        ParameterError: an unknown kind.
    """
    return {kind: [e.address for e in entries if not e.why] for kind, entries in _listed(kinds, match).items()}


def scan(kinds: Collection[str] = KINDS, match: str = "", workers: int = 2) -> Generator[Scanned, None, None]:
    """Reads what is installed, each in a process that may crash or hang; those that were read before come first.

    What was read is kept in the user's cache until the file or its host changes, and why something cannot be used for
    a day. An iteration that is left early ends its processes and keeps what it has.

    Args:
        kinds: some of `KINDS`.
        match: what the address has in it, in any case.
        workers: processes at a time.

    Yields:
        One `Scanned` for each effect that `installed` lists, and for LADSPA plugins that are none.

    Raises:
        ParameterError: an unknown kind.
    """
    new: list[_Entry] = []
    for entry in (e for entries in _listed(kinds, match).values() for e in entries):
        found = _known(entry)
        if found:
            yield found
        else:
            new.append(entry)
    batches: queue.SimpleQueue[list[_Entry]] = queue.SimpleQueue()
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
def _hosts() -> list[str]:
    found = []
    for package in ("pedalboard", "dawdreamer"):
        try:
            found.append(version(package))
        except PackageNotFoundError:
            found.append("")
    return found


def _key(entry: _Entry) -> dict[str, Any]:
    return {"format": _FORMAT, "address": entry.address, "files": aside.digest(*entry.files), "hosts": _hosts()}


def _known(entry: _Entry) -> Scanned | None:
    """What is known of an effect without running it."""
    kind, _, name = entry.address.partition(":")
    if kind == "pedalboard":
        return Scanned(entry.address, parameters=len(BUILTINS[name]))
    if entry.why:
        return Scanned(entry.address, why=f"It {entry.why}.")
    try:
        kept = cache.load("scan", _key(entry))
    except OSError as error:
        return Scanned(entry.address, why=f"Cannot read {error.filename} ({error.strerror}); check the file.")
    if kept is None or (kept["until"] is not None and kept["until"] < time.time()):
        return None
    return Scanned(entry.address, **kept["found"])


def _read(batch: list[_Entry], stop: threading.Event, give: Callable[[Scanned], None]) -> None:
    left = list(batch)

    def heard(told: dict[str, Any]) -> None:
        entry = left.pop(0)
        lasts = told.pop("lasts")
        if lasts:
            until = time.time() + _DAY if told["why"] else None
            cache.save("scan", _key(entry), {"found": told, "until": until})
        give(Scanned(entry.address, **told))

    while left and not stop.is_set():
        before = len(left)
        try:
            aside.ask(
                str(Path(__file__).with_name("scan_reader.py")), [e.address for e in left], _DEADLINE, heard, stop
            )
        except (aside.Failed, aside.Refused) as error:
            # one that comes later may have been hurt by those before it, and is tried first in another process
            if len(left) == before and not stop.is_set():
                reason = f"it {error}" if isinstance(error, aside.Failed) else ": ".join(error.args)
                heard({"why": f"Cannot load {left[0].address} ({reason}).", "lasts": isinstance(error, aside.Failed)})

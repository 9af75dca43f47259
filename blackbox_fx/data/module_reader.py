"""Loads and renders tracker modules: `isolation.call` runs this module in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from blackbox_fx import isolation
from blackbox_fx.audio import Audio
from blackbox_fx.core import files
from blackbox_fx.data.kept import wav, write
from blackbox_fx.data.modules import INDEX, RAW
from blackbox_fx.data.openmpt import Library, Module

_EXACT = 1e-5  # of full scale, by which stems may miss the mix
_SILENT = 1e-6
_FAST = 8000  # Hz at which it is tried what sums to the mix
_MOST = 256  # instruments or samples that are tried
_LARGEST = 64 << 20  # bytes of a module

_Beat = Callable[[], None]  # says that the process lives


def _render(library: Library, content: bytes, rate: int, solo: tuple[str, int] | None = None) -> Audio:
    """The mix, or one stem."""
    module = Module(library, content)
    try:
        if solo is not None:
            kind, index = solo
            module.mute(kind, (k for k in range(module.count(kind)) if k != index))
        return module.render(rate)
    finally:
        module.close()


def _peak(x: Audio) -> float:
    return float(np.abs(x).max(initial=0.0))


def _kinds(library: Library, content: bytes, random: bool) -> Iterator[tuple[str, list[str]]]:
    """What stems may be of, the best first, with names; where sums cannot be tried, those that always fit."""
    module = Module(library, content)
    try:
        for kind in ("channel",) if random else ("instrument" if module.count("instrument") else "sample", "channel"):
            count = module.count(kind)
            if count <= _MOST:
                yield kind, [module.name(kind, k) for k in range(count)]
    finally:
        module.close()


def _content(path: str) -> bytes:
    with Path(path).open("rb") as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise ValueError(f"it is larger than {_LARGEST >> 20} MiB")
    return content


def _inspect(library: Library, path: str, rate: int, beat: _Beat) -> dict[str, Any]:
    """What a module is, see `modules.Facts`. Raises ValueError if it is none, or silent, or has no stems."""
    content = _content(path)
    mix, again = (_render(library, content, _FAST) for _ in range(2))
    if _peak(mix) <= _SILENT:
        raise ValueError("it is silent")
    beat()
    random = not np.array_equal(mix, again)
    error = np.inf
    for kind, names in _kinds(library, content, random):
        heard, left = [], mix.astype(np.float64)
        for index, name in enumerate(names):
            stem = _render(library, content, _FAST, (kind, index))
            beat()
            if stem.shape != mix.shape:
                left[:] = np.inf
            elif _peak(stem) > _SILENT:
                heard.append((index, name))
                left -= stem
        error = float(np.abs(left).max())
        if heard and (random or error <= _EXACT):
            frames = _render(library, content, rate).shape[1]
            return {"kind": kind, "tracks": heard, "random": random, "frames": frames}
    raise ValueError(f"its channels do not sum to its mix (off by {error:.1g}), as they share an effect")


def _save(library: Library, question: dict[str, Any], beat: _Beat) -> None:
    """Renders all stems and the mix into a folder, and last an index."""
    content, folder, rate, frames = _content(question["path"]), Path(question["folder"]), question["rate"], None
    total = np.zeros((2, question["frames"]), np.float32)
    (folder / RAW).unlink(missing_ok=True)  # it is of other stems
    for index in question["tracks"]:
        stem = _render(library, content, rate, (question["kind"], index))
        frames = stem.shape[1]
        if frames != total.shape[1]:
            raise ValueError("it is no longer as it was when it was read")
        total += stem
        write(folder / wav(index), [stem], rate, stem.shape[1])
        beat()
    if question["random"]:  # each render is another one, and this is that of the stems
        mix = total
    else:
        mix = _render(library, content, rate)
        if (error := _peak(mix - total)) > _EXACT:
            raise ValueError(f"its {question['kind']}s do not sum to its mix (off by {error:.1g}) at {rate} Hz")
    write(folder / wav(None), [mix], rate, mix.shape[1])
    files.write_text(folder / INDEX, json.dumps(question["tracks"]))


def _reply(question: dict[str, Any], report: Callable[[Any], None]) -> None:
    library = Library(question["library"])
    if question["what"] == "save":
        return _save(library, question, lambda: report(None))
    for path in question["paths"]:
        try:
            report(_inspect(library, path, question["rate"], lambda: report(None)))
        except (ValueError, OSError, MemoryError) as error:
            report({"refused": getattr(error, "strerror", None) or str(error) or "it needs too much memory"})


if __name__ == "__main__":
    isolation.answer(_reply)

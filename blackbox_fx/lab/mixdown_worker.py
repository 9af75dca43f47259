"""Mixes a song and renders its effects by themselves, in the process that `isolation.call` starts."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from blackbox_fx import isolation
from blackbox_fx.audio import Audio, read, to_channels
from blackbox_fx.core.progress import Progress
from blackbox_fx.core.system import resource
from blackbox_fx.effects import load
from blackbox_fx.layers.console import Console
from blackbox_fx.layers.mixdown import mixdown
from blackbox_fx.layers.routing import MIX_BUS, Bus, Send
from blackbox_fx.runtime import Inline

_RATE = 44100
_ROLES = ("drums", "bass", "vocals", "others")
_STEREO = ("others",)
_TIMES = 3  # fresh memory makes the same long render take up to twice as long
_STATUS = Path("/proc/self/status")


def _console(equaliser: str) -> Console:
    """A console of which every part is a chain."""

    def chain(*names: str) -> list[Any]:
        return [load(name if ":" in name else f"pedalboard:{name}") for name in names]

    return Console(
        strips={
            "drums": chain("LowShelfFilter", "PeakFilter", "Compressor"),
            "bass": chain(equaliser, "Compressor"),
            "vocals": chain("HighpassFilter", "PeakFilter", "HighShelfFilter", "Compressor"),
            "others": chain("PeakFilter", "HighShelfFilter"),
        },
        groups={"rhythm": Bus(["drums", "bass"], chain("Compressor"))},
        sends={"room": Send(chain("Reverb")), "echo": Send(chain("Delay"), pre=True)},
        bus=chain("Limiter"),
        pool=Inline(),
        sample_rate=_RATE,
    )


def _write_track(path: Path, frames: int, channels: int, draw: np.random.Generator) -> None:
    """Writes bursts of noise, one after another, each of which dies away."""
    length = int(draw.integers(_RATE // 4, _RATE))
    shape = 0.3 * np.exp(np.linspace(0, -6, length, dtype=np.float32))[:, None]
    with soundfile.SoundFile(path, "w", _RATE, channels, "FLOAT") as file:
        for start in range(0, frames, length):
            burst = shape * draw.standard_normal((length, channels), np.float32)
            file.write(burst[: frames - start])


def _peak_mb() -> float:
    """The most memory that this process had; on Linux, `getrusage` also counts what its parent had before it."""
    if _STATUS.exists():
        (line,) = (line for line in _STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def _chain_seconds(chain: Any, audio: Audio, columns: Tensor) -> float:
    """How long the effects of a chain take by themselves, one after another: the mean of several times."""
    settings, spent = chain.decode(columns)[0], 0.0
    for _ in range(_TIMES):
        wet = audio
        for name, member in chain.members.items():
            began = time.perf_counter()
            wet = member.effect.render(wet, settings[name], _RATE)
            spent += time.perf_counter() - began
    return spent / _TIMES


def _bare_seconds(
    console: Console, files: Sequence[Path], roles: Sequence[str], rows: Tensor, buses: Tensor, progress: Progress
) -> float:
    """How long all effects take by themselves, those of strips by one track of each role."""
    own, _, _ = console.split_tracks(rows)
    spent = 0.0
    for role, count in Counter(roles).items():
        progress(len(files), len(files), f"bare effects of {role}")
        number = roles.index(role)
        label, strip = console.strip_of(role)
        spent += count * _chain_seconds(strip, read(files[number])[0], own[label][number : number + 1])
    stereo, columns = to_channels(read(files[0])[0], 2), console.split_buses(buses)
    parts = [(name, group, columns[name][:, :-1]) for name, group in console.groups.items()]
    parts += [(name, back, columns[name]) for name, back in console.returns.items()]
    for name, chain, own_columns in (*parts, (MIX_BUS, console.bus, columns[MIX_BUS])):
        progress(len(files), len(files), f"bare effects of {name}")
        spent += _chain_seconds(chain, stereo, own_columns)
    return spent


def _reply(question: dict[str, Any], report: Callable[[Any], None]) -> dict[str, Any]:
    torch.set_num_threads(1)
    tracks, frames = question["tracks"], round(60 * question["minutes"] * _RATE)
    roles = [_ROLES[k % len(_ROLES)] for k in range(tracks)]
    draw = np.random.default_rng(question["seed"])
    console = _console(question["equaliser"])
    rows, buses = (
        torch.from_numpy(draw.uniform(0.3, 0.7, shape)).float()
        for shape in ((tracks, console.track_width), (1, console.bus_width))
    )

    def progress(done: int, total: int, words: str) -> None:
        report((done, total, words))

    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{k}-{role}.wav" for k, role in enumerate(roles)]
        for k, (path, role) in enumerate(zip(files, roles, strict=True)):
            progress(k, tracks, f"writing {path.name}")
            _write_track(path, frames, 2 if role in _STEREO else 1, draw)
        began = time.perf_counter()
        mixdown(console, files, rows, buses, role=roles, progress=progress)
        spent, peak = time.perf_counter() - began, _peak_mb()
        renders = _bare_seconds(console, files, roles, rows, buses, progress)
    return {"mixdown": spent, "renders": renders, "peak_mb": peak}


if __name__ == "__main__":
    isolation.answer(_reply)

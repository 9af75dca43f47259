"""Settings at which an effect failed twice: refused from then on, and reported so that it can be seen again."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import time
from pathlib import Path
from typing import Any, final

import numpy as np

from blackbox_fx.audio import write
from blackbox_fx.core import files, paths
from blackbox_fx.errors import AudioError, BlackBoxError
from blackbox_fx.runtime.base import Job

_KEPT = 50  # reports
_DIGITS = 6


def settings(job: Job, n: int) -> Any:
    """The settings of a render, by name; a list of them if they vary in time."""
    decode = job.effect.space.decode_row
    return decode(job.points[n]) if job.hop is None else [decode(point) for point in job.points[n]]


def folder() -> Path:
    """Where reports go: a .json each, and the dry audio beside it. The newest 50 are kept."""
    return paths.cache() / "quarantine"


@final
class Quarantine:
    """What a pool refuses to render."""

    def __init__(self) -> None:
        self._failures: dict[tuple[str, float, bytes], tuple[type[BlackBoxError], str]] = {}

    def refusal(self, effect: str, job: Job, n: int) -> BlackBoxError | None:
        """The error of a render at settings that are in quarantine, None of any other."""
        if not self._failures or (found := self._failures.get(_key(effect, job, n))) is None:
            return None
        kind, text = found
        return kind(f"{text} before; the pool does not render that again until it is closed.")

    def add(self, effect: str, job: Job, n: int, kind: type[BlackBoxError], cause: str, output: str) -> BlackBoxError:
        """Puts the settings of a render in quarantine, and reports it.

        Args:
            effect: the effect as workers know it.
            job: with the render.
            n: the render; negative for an effect that could not be opened, which is reported only.
            kind: of error.
            cause: what happened, in words.
            output: what the worker printed last.

        Returns:
            The error, which names the report.
        """
        path = _write_report(effect, job, max(n, 0), cause, output)
        text = f"{cause} (reported in {path})" if path else cause
        if n >= 0:
            self._failures[_key(effect, job, n)] = kind, text
        error = kind(f"{text}; leave out such settings, or the effect.")
        if output:
            error.add_note(f"The worker's last output:\n{output}")
        return error

    def lift(self) -> None:
        """Forgets all."""
        self._failures.clear()


def _key(effect: str, job: Job, n: int) -> tuple[str, float, bytes]:
    return effect, job.sample_rate, np.round(job.points[n], _DIGITS).tobytes()


def _write_report(effect: str, job: Job, n: int, cause: str, output: str) -> Path | None:
    """The report's path; None where the cache folder cannot be written."""
    slug = re.sub(r"[^A-Za-z0-9]+", "-", job.effect.name).strip("-")[:40]
    name = f"{slug}-{hashlib.blake2b(repr(_key(effect, job, n)).encode(), digest_size=4).hexdigest()}"
    path, audio, values = folder() / f"{name}.json", folder() / f"{name}.wav", settings(job, n)
    if job.hop is None:
        values = job.effect.defaults | values
    report = {
        "effect": job.effect.name,
        "address": job.effect.address,
        "settings": values,
        "hop": job.hop,
        "cause": cause,
        "output": output.splitlines(),
        "seconds": job.audio.shape[-1] / job.sample_rate,
        "channels": job.audio.shape[1],
        "sample_rate": job.sample_rate,
        "audio": str(audio),
        "reproduce": _command(job, audio, values),
        "written": time.strftime("%Y-%m-%d %H:%M:%S"),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(audio, job.audio[job.items[n]], job.sample_rate)
        files.write_text(path, json.dumps(report, indent=2))
        for old in sorted(path.parent.glob("*.json"), key=lambda p: p.stat().st_mtime)[:-_KEPT]:
            old.unlink(missing_ok=True)
            old.with_suffix(".wav").unlink(missing_ok=True)
    except (OSError, AudioError):
        return None
    return path


def _command(job: Job, audio: Path, values: Any) -> str | None:
    """What shows it again on a terminal; None where no command can make the effect, or settings vary in time."""
    if job.effect.address is None or job.hop is not None:
        return None
    words = ["blackbox-fx", "render", job.effect.address, str(audio), "out.wav"]
    for name, value in values.items():
        words += ["--set", f"{name}={int(value) if isinstance(value, bool) else value}"]
    return shlex.join(words)

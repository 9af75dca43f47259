"""What stems of each role are like on average, over any number of songs."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, final

import numpy as np

from blackbox_fx.core import files
from blackbox_fx.core.checks import is_number, is_whole
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.data.clips import Source
from blackbox_fx.data.normalising.features import SILENCE_LUFS, StemFeatures, measure_effects
from blackbox_fx.data.normalising.frames import OCTAVES_HZ, Array
from blackbox_fx.data.roles import ROLES
from blackbox_fx.errors import DataError

_FORMAT = 1
_WIDTH = 4 + 3 * len(OCTAVES_HZ)
_OTHER = "other"
_SIZE_LIMIT = 1 << 20  # bytes of a file


@final
@dataclasses.dataclass
class _Sums:
    """Counts, means and sums of squared differences from them (Welford, 1962), of each number of a row of features."""

    counts: Array
    means: Array
    squares: Array

    @classmethod
    def empty(cls) -> _Sums:
        return cls(np.zeros(_WIDTH), np.zeros(_WIDTH), np.zeros(_WIDTH))

    def add(self, counts: Array, means: Array, squares: Array) -> None:
        total = np.maximum(self.counts + counts, 1)
        off = np.where(counts > 0, means - self.means, 0.0)
        self.squares += squares + off**2 * self.counts * counts / total
        self.means += off * counts / total
        self.counts += counts

    def features(self) -> StemFeatures:
        return StemFeatures.of_vector(np.where(self.counts > 0, self.means, np.nan))

    def spread(self) -> StemFeatures:
        """Standard deviations; that of the decay is a factor."""
        found = np.sqrt(self.squares / np.maximum(self.counts, 1))
        return StemFeatures.of_vector(np.where(self.counts > 0, found, np.nan))


@final
class EffectAverages:
    """The features of stems of each role, averaged over as many as were added; memory does not grow with them.

    >>> averages = EffectAverages()
    >>> averages.roles
    ()
    """

    def __init__(self) -> None:
        self._sums: dict[str, _Sums] = {}

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of which there are stems."""
        return tuple(role for role in ROLES if role in self._sums)

    def add(self, role: str, found: StemFeatures) -> None:
        """Counts in a stem; a silent one counts for nothing.

        Args:
            role: one of `ROLES`.
            found: by `measure_effects`.

        Raises:
            DataError: an unknown role.
        """
        if role not in ROLES:
            raise DataError(f"{role!r} is no role; known are {', '.join(ROLES)}.")
        if found.loudness > SILENCE_LUFS:
            row = found.vector()
            known = np.isfinite(row)
            sums = self._sums.setdefault(role, _Sums.empty())
            sums.add(known.astype(float), np.where(known, row, 0.0), np.zeros(_WIDTH))

    def of(self, role: str) -> StemFeatures:
        """What a stem of this role is like on average; levels of octaves are moved so that their powers add up to 0 dB.

        Args:
            role: one of `ROLES`; without stems of it, those of "other" stand for it, and without those, all.

        Raises:
            DataError: no stem was added.
        """
        found = self._of(role).features()
        total = 10 * math.log10(sum(10 ** (level / 10) for level in found.spectrum))
        return dataclasses.replace(found, spectrum=tuple(level - total for level in found.spectrum))

    def spread(self, role: str) -> StemFeatures:
        """The standard deviation of each feature, in the same units; that of the decay as a factor.

        Args:
            role: as for `of`.

        Raises:
            DataError: no stem was added.
        """
        return self._of(role).spread()

    def count(self, role: str) -> int:
        """How many stems of this role, one of `ROLES`, were added."""
        return int(self._sums[role].counts[0]) if role in self._sums else 0

    def _of(self, role: str) -> _Sums:
        if not self._sums:
            raise DataError("The averages hold no stem; add stems that are not silent first.")
        found = self._sums.get(role) or self._sums.get(_OTHER)
        if found is None:
            found = _Sums.empty()
            for sums in self._sums.values():
                found.add(sums.counts, sums.means, sums.squares)
        return found

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a JSON file, whole or not at all.

        Args:
            path: of the file.

        Raises:
            DataError: it cannot be written.
        """
        roles = {
            role: {field.name: getattr(sums, field.name).tolist() for field in dataclasses.fields(sums)}
            for role, sums in self._sums.items()
        }
        try:
            files.write_text(Path(path), json.dumps({"format": _FORMAT, "roles": roles}, indent=1))
        except OSError as error:
            raise DataError(f"Cannot write {path} ({error.strerror}); choose another place.") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> EffectAverages:
        """Reads what `save` wrote.

        Args:
            path: of the file.

        Raises:
            DataError: it cannot be read, or holds anything else.
        """
        try:
            if Path(path).stat().st_size > _SIZE_LIMIT:
                raise ValueError("it is too large")
            found = cls()
            for role, said in _roles(json.loads(Path(path).read_text(encoding="utf-8"))).items():
                found._sums[role] = _read(role, said)
        except (OSError, ValueError, RecursionError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)[:200]
            raise DataError(f"Cannot read the averages {path} ({reason}); write them again with save.") from error
        return found


def _roles(said: Any) -> Mapping[str, Any]:
    if not isinstance(said, dict) or set(said) != {"format", "roles"} or not isinstance(said["roles"], dict):
        raise ValueError("it does not hold format and roles alone")
    if said["format"] != _FORMAT or not is_whole(said["format"]):
        raise ValueError(f"its format is {said['format']!r}, and {_FORMAT} is known")
    if unknown := [role for role in said["roles"] if role not in ROLES]:
        raise ValueError(f"{unknown[0]!r} is no role")
    return said["roles"]


def _read(role: str, said: Any) -> _Sums:
    names = [field.name for field in dataclasses.fields(_Sums)]
    if not isinstance(said, dict) or set(said) != set(names):
        raise ValueError(f"{role} does not hold {', '.join(names)} alone")
    rows: list[Array] = []
    for name in names:
        row = said[name]
        if not isinstance(row, list) or len(row) != _WIDTH or not all(is_number(v) and math.isfinite(v) for v in row):
            raise ValueError(f"{name} of {role} must be {_WIDTH} numbers")
        rows.append(np.array(row, float))
    counts, _, squares = rows
    if counts[0] < 1 or (counts < 0).any() or (counts % 1).any() or (squares < 0).any():
        raise ValueError(f"the counts or squares of {role} are none")
    return _Sums(*rows)


def average_effects(songs: Iterable[Source], progress: Progress = quiet) -> EffectAverages:
    """What the stems of songs are like on average, by role. One song at a time is in memory.

    Args:
        songs: such as those of `read_songs`, or of `compose`.
        progress: gets songs done, all songs, and the name of the present one.

    Raises:
        DataError: no track of a song can be read.
    """
    found, listed = EffectAverages(), tuple(songs)
    for k, source in enumerate(listed):
        progress(k, len(listed), source.name)
        song = source.excerpt(0, source.length)
        for role, track in zip(song.roles, song.tracks, strict=True):
            found.add(role, measure_effects(track, song.sample_rate))
    return found

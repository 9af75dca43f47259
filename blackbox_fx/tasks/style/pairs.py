"""Pairs that teach style transfer by themselves: two places of one song, treated alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import final

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.audio import Audio
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.data.clips import SILENCE, Source
from blackbox_fx.effects import Effect
from blackbox_fx.errors import DataError
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.models.treatment import Spectrograms
from blackbox_fx.runtime import Pool

_LEVELS_DB = (-18.0, -3.0)  # of peaks
_FAINT = 0.1  # peak of wet audio over that of dry, below which a pair is left out: its distance would drown all others
_TRIES = 40  # draws of places, and of whole pairs, for each that can be used
_TOGETHER = 16  # rendered at a time


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of one length, in the order in which they were drawn.

    Args:
        names: of the songs.
        dry: what is to be treated, (pairs, channel, time).
        target: the same at the settings, (pairs, channel, time).
        heard, wanted: `Spectrograms` of the dry audio, and of another place of the song at the same settings.
        params: the settings, (pairs, width) in [0, 1].
        reference: the other place at the settings, (pairs, channel, time); no channels where it was not kept.
        left_out: draws that gave silence or came out more than 20 dB softer, or whose render failed.
    """

    names: tuple[str, ...]
    dry: Tensor
    target: Tensor
    heard: Tensor
    wanted: Tensor
    params: Tensor
    reference: Tensor
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.names)

    def take(self, index: Sequence[int]) -> Pairs:
        """Some of the pairs."""
        rows = torch.as_tensor(index, dtype=torch.long)
        return Pairs(tuple(self.names[k] for k in index), *(x[rows] for x in self._tensors()), left_out=self.left_out)

    def to(self, device: torch.device | str) -> Pairs:
        """The pairs on a device."""
        return Pairs(self.names, *(x.to(device) for x in self._tensors()), left_out=self.left_out)

    def _tensors(self) -> tuple[Tensor, ...]:
        return self.dry, self.target, self.heard, self.wanted, self.params, self.reference


@torch.no_grad()
def draw_pairs(
    songs: Sequence[Source],
    chain: Effect,
    count: int,
    seconds: float,
    channels: int,
    seed: int,
    pool: Pool,
    progress: Progress = quiet,
    *,
    across: float = 0.0,
    keep_references: bool = False,
) -> Pairs:
    """Draws pairs; the same for the same songs and seed.

    Half of them are of whole songs, half of single tracks, at peaks from -18 to -3 dBFS. Settings are drawn evenly over
    the ranges of the chain; where they make audio more than 20 dB softer, the pair is drawn again.

    Args:
        songs: that are cut.
        chain: all effects as one.
        count: how many.
        seconds: length of each place.
        channels: 1 or 2.
        seed: of the draws.
        pool: where the effects render.
        progress: called after each part.
        across: share of pairs whose reference is another song, so that what is played tells nothing.
        keep_references: whether the audio of references is kept, too.

    Raises:
        DataError: songs or settings that give nothing but silence.
    """
    rate = songs[0].sample_rate
    spectrograms, layer = Spectrograms(rate, channels), BlackBox(chain, pool=pool, sample_rate=rate, surrogates=())
    parts: list[Pairs] = []
    drawn = found = 0
    while found < count:
        if drawn > _TRIES * (count + _TOGETHER):
            raise DataError(f"{drawn} draws gave {found} pairs that sound; narrow the ranges of the chain.")
        part = _draw(songs, chain, layer, spectrograms, seconds, across, [seed, drawn])
        parts.append(part if keep_references else dataclasses.replace(part, reference=part.reference[:, :0].clone()))
        drawn += _TOGETHER
        found += len(part)
        progress(min(found, count), count, "pairs")
    every = zip(*(p._tensors() for p in parts), strict=True)
    names = tuple(name for p in parts for name in p.names)
    return Pairs(names, *map(torch.cat, every), left_out=drawn - found).take(range(count))


def _draw(
    songs: Sequence[Source],
    chain: Effect,
    layer: BlackBox,
    spectrograms: Spectrograms,
    seconds: float,
    across: float,
    seed: Sequence[int],
) -> Pairs:
    """Those of some pairs that can be used."""
    draws = [np.random.default_rng([*seed, k]) for k in range(_TOGETHER)]
    names, *places = zip(*(_places(songs, seconds, spectrograms.channels, rng) for rng in draws), strict=True)
    dry, other = (torch.from_numpy(np.stack(place)) for place in places)
    params = torch.from_numpy(np.concatenate([chain.space.sample(1, rng) for rng in draws])).float()
    away = torch.tensor([rng.random() < across for rng in draws])
    other = torch.where(away[:, None, None], other.roll(1, 0), other)
    target, reference = layer(torch.cat([dry, other]), params.repeat(2, 1)).chunk(2)
    peaks = [(wet.abs().amax((1, 2)), clean.abs().amax((1, 2))) for wet, clean in ((target, dry), (reference, other))]
    loud = torch.stack([(wet >= SILENCE) & (wet >= _FAINT * clean) for wet, clean in peaks]).all(0)
    failed = np.logical_or(*np.split(layer.failed, 2))
    ok = loud.numpy() & ~failed
    pairs = Pairs(names, dry, target, spectrograms(dry), spectrograms(reference), params, reference)
    return pairs.take(np.flatnonzero(ok).tolist())


def _places(
    songs: Sequence[Source], seconds: float, channels: int, rng: np.random.Generator
) -> tuple[str, Audio, Audio]:
    """Two places of a song that sound, at the same gain."""
    problem = "silent"
    for _ in range(_TRIES):
        song = songs[int(rng.integers(len(songs)))]
        try:
            first, second = _cut(song, 2, seconds, channels, rng)
        except DataError as error:
            problem = str(error)
            continue
        peaks = [float(np.abs(x).max()) for x in (first, second)]
        if min(peaks) >= SILENCE:
            gain = np.float32(10 ** (rng.uniform(*_LEVELS_DB) / 20) / max(peaks))
            return song.name, first * gain, second * gain
    raise DataError(f"{_TRIES} places in a row cannot be used (the last: {problem}); use other or longer songs.")


def draw_place(song: Source, seconds: float, channels: int, rng: np.random.Generator) -> Audio:
    """A place of a song, whole or one track, that sounds, at a random level, (channel, time).

    Args:
        song: that is cut.
        seconds: length.
        channels: 1 or 2.
        rng: draws.

    Raises:
        DataError: a song that is silent wherever it is cut, or cannot be read.
    """
    for _ in range(_TRIES):
        (found,) = _cut(song, 1, seconds, channels, rng)
        if (peak := float(np.abs(found).max())) >= SILENCE:
            return found * np.float32(10 ** (rng.uniform(*_LEVELS_DB) / 20) / peak)
    raise DataError(f"{_TRIES} places of {song.name} in a row are silent; use other songs.")


def _cut(song: Source, count: int, seconds: float, channels: int, rng: np.random.Generator) -> list[Audio]:
    """Random places of a song: of all its tracks together or, half of the time, of one of them."""
    length = round(seconds * song.sample_rate)
    starts = rng.integers(max(song.length - length, 0) + 1, size=count)
    whole, choice = rng.random() < 0.5, rng.random()
    each = [song.excerpt(int(start), length).stack(channels) for start in starts]
    return [x.sum(0) if whole else x[min(int(choice * len(each[0])), len(x) - 1)] for x in each]

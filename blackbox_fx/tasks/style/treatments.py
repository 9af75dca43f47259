"""The same treatments on several songs: what an encoder learns from, and is judged by."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.audio import Audio
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.data import compose
from blackbox_fx.data.clips import SILENCE, Source
from blackbox_fx.effects import Effect, Rack, load
from blackbox_fx.errors import EffectError, ParameterError
from blackbox_fx.models.treatment import Spectrograms
from blackbox_fx.tasks.style.pairs import draw_place

_LEVEL_DB = (-24.0, -6.0)  # of peaks of treated audio, whatever the treatment made of them
_TRIES = 20
_APART = 1_000_000  # seeds of parts, of one seed to the next
RATE = 44100  # of composed songs, in Hz
_FIRST, _AT_ONCE, _SONG_S = 1000, 50, 12.0  # composed songs: seed of the first, how many in memory, their length

KINDS: Mapping[str, tuple[str, ...]] = {
    "equaliser": ("pedalboard:LowShelfFilter", "pedalboard:PeakFilter", "pedalboard:HighShelfFilter"),
    "compressor": ("pedalboard:Compressor",),
    "distortion": ("pedalboard:Distortion",),
    "reverberation": ("pedalboard:Reverb",),
    "delay": ("pedalboard:Delay",),
    "chorus": ("pedalboard:Chorus",),
    "phaser": ("pedalboard:Phaser",),
    "limiter": ("pedalboard:Limiter",),
}


@final
@dataclasses.dataclass(frozen=True, eq=False)
class Treated:
    """Clips of two songs under two treatments, many times over.

    Args:
        spectrograms: (groups, 2 treatments, 2 songs, bands, frames).
        audio: (groups, 2, 2, channel, time); no channels where it was not kept.
        kinds: of the treatments, (groups, 2), as numbers in the order of the mapping.
        params: their settings, (groups, 2, width of the widest), filled with NaN.
        songs: numbers of the songs, (groups, 2).
    """

    spectrograms: Tensor
    audio: Tensor
    kinds: Tensor
    params: Tensor
    songs: Tensor


def load_kinds(kinds: Mapping[str, Sequence[str]] = KINDS) -> dict[str, Effect]:
    """The effects of the kinds, several in series as one."""
    return {name: _whole([load(address) for address in addresses]) for name, addresses in kinds.items()}


def fixed_styles(count: int = 12, seed: int = 0) -> dict[str, Effect]:
    """Styles: an equaliser and a compressor, all of whose settings are held at values drawn once.

    Args:
        count: how many.
        seed: of the settings.
    """
    chain = Rack([load(address) for address in (*KINDS["equaliser"], *KINDS["compressor"])])
    points = chain.space.sample(count, np.random.default_rng(seed))
    return {f"style {k}": chain.fix(chain.space.decode(point)) for k, point in enumerate(points)}


def _whole(effects: Sequence[Effect]) -> Effect:
    return effects[0] if len(effects) == 1 else Rack(effects)


def draw_treated(
    songs: Sequence[Source],
    effects: Mapping[str, Effect],
    groups: int,
    seconds: float,
    seed: int,
    progress: Progress = quiet,
    *,
    keep_audio: bool = False,
) -> Treated:
    """Draws groups; the same for the same songs and seed.

    In each group, two clips of different songs go through two treatments of different kinds; four clips in all, at
    random levels.

    Args:
        songs: two or more.
        effects: by kind.
        groups: how many.
        seconds: length of the clips, which are stereo.
        seed: of the draws.
        progress: called after each group.
        keep_audio: whether the audio is kept, too.
    """
    rate = songs[0].sample_rate
    hear, kinds = Spectrograms(rate, 2), list(effects)
    widest = max(effect.space.width for effect in effects.values())
    found: list[tuple[Tensor, ...]] = []
    for group in range(groups):
        rng = np.random.default_rng([seed, group])
        pair = rng.choice(len(songs), 2, replace=False)
        dry = [draw_place(songs[int(k)], seconds, 2, rng) for k in pair]
        own = rng.choice(len(kinds), 2, replace=len(kinds) < 2)
        rows, wet = [], []
        for kind in own:
            point, clips = _treat(effects[kinds[kind]], dry, rate, rng)
            rows.append(np.pad(point, (0, widest - len(point)), constant_values=np.nan))
            wet += clips
        audio = torch.from_numpy(np.stack(wet)).unflatten(0, (2, 2))
        heard = hear(audio.flatten(0, 1)).unflatten(0, (2, 2))
        kept = audio if keep_audio else audio[:, :, :0].clone()  # a view would keep it all
        found.append((heard, kept, torch.from_numpy(own), torch.from_numpy(np.stack(rows)), torch.from_numpy(pair)))
        progress(group + 1, groups, "treated clips")
    return Treated(*map(torch.stack, zip(*found, strict=True)))


def compose_treated(
    effects: Mapping[str, Effect], songs: int, groups: int, seconds: float, seed: int, progress: Progress = quiet
) -> Treated:
    """Draws groups of composed songs, of which a few are in memory at a time.

    Args:
        effects: by kind.
        songs: how many; two or more.
        groups: how many in all, see `draw_treated`.
        seconds: length of the clips, which are stereo, at 44.1 kHz.
        seed: of the draws.
        progress: called after each group, and while songs are composed.

    Raises:
        ParameterError: fewer than two songs, or no groups.
    """
    if songs < 2 or groups < 1:
        raise ParameterError(f"Treatments need two songs and one group at least, got {songs} and {groups}.")
    count = min(-(-songs // _AT_ONCE), groups)
    parts = []
    for k in range(count):
        first, last = songs * k // count, songs * (k + 1) // count
        done, own = groups * k // count, groups * (k + 1) // count - groups * k // count
        composed = []
        for number in range(first, last):
            progress(done, groups, f"composing song {number + 1} of {songs}")
            composed.append(compose(_FIRST + number, _SONG_S, RATE))

        def told(n: int, _: int, words: str, done: int = done) -> None:
            progress(done + n, groups, words)

        part = draw_treated(composed, effects, own, seconds, seed * _APART + k, told)
        parts.append(dataclasses.replace(part, songs=part.songs + first))
    return Treated(*(torch.cat(pieces) for pieces in zip(*(vars(part).values() for part in parts), strict=True)))


def _treat(effect: Effect, dry: Sequence[Audio], rate: float, rng: np.random.Generator) -> tuple[Any, list[Audio]]:
    """A setting at which both clips sound, and what it makes of them, at random levels."""
    for _ in range(_TRIES):
        point = effect.space.sample(1, rng)[0]
        wet = [effect.render(x, effect.space.decode(point), rate) for x in dry]
        peaks = [float(np.abs(x).max()) for x in wet]
        if min(peaks) >= SILENCE:
            gains = [10 ** (rng.uniform(*_LEVEL_DB) / 20) / peak for peak in peaks]
            return point, [(x * gain).astype(np.float32) for x, gain in zip(wet, gains, strict=True)]
    raise EffectError(f"{effect.name} is silent at {_TRIES} random settings; narrow its ranges.")

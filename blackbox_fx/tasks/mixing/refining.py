"""Goes on by gradients for one song: towards its own mix, or towards the sound of a reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.audio import Audio, to_channels
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.data.clips import Clip, Clips
from blackbox_fx.data.folder import SongFiles
from blackbox_fx.errors import DataError, ParameterError
from blackbox_fx.tasks.mixing.measures import MixFeatures, MixLoss, sound_distance
from blackbox_fx.tasks.mixing.mixer import Mixer, Settings

_SECONDS = 4.0  # of an excerpt
_RATE = 0.05  # of Adam, on the axis of the logit
_JUDGED = 6  # excerpts by which the end is compared with the beginning
_EDGE = 0.01  # settings nearer to an end of their range start from here, where they still have a gradient

Loss = Callable[[Tensor, Clip], Tensor]


@final
class Refined:
    """What `refine` found.

    Args:
        settings: the better of those before and after.
        before, after: mean losses on the same excerpts.
    """

    def __init__(self, settings: Settings, before: float, after: float) -> None:
        self.settings, self.before, self.after = settings, before, after


def refine(
    mixer: Mixer,
    song: SongFiles,
    settings: Settings,
    steps: int,
    reference: Audio | None = None,
    progress: Progress = quiet,
    seed: int = 0,
) -> Refined:
    """Moves the settings of one song by gradients, so that its mix comes nearer to what is wanted.

    Args:
        mixer: whose console is set.
        song: that is mixed.
        settings: where to begin.
        steps: of Adam, each on an excerpt of 4 s; with 0, `settings` are measured alone.
        reference: any finished mix, (channel, time) at the mixer's sample rate, whose spectrum, width, places and
            dynamics are wanted; None for the song's own mix.
        progress: called after each step.
        seed: of the excerpts.

    Raises:
        DataError: neither a reference nor a mix of the song.
        ParameterError: a reference shorter than 1 s.
    """
    if reference is None and not song.has_mix:
        raise DataError(f"{song.name} comes without its mix, so nothing says what is better; give a reference.")
    wanted = _own_mix(mixer.sample_rate) if reference is None else _sound_of(reference, mixer.sample_rate)
    seconds = min(_SECONDS, song.length / song.sample_rate)
    clips = Clips([song], seconds, mixer.channels, seed)
    logits = [x.clamp(_EDGE, 1 - _EDGE).logit().requires_grad_() for x in settings]
    optimizer = torch.optim.Adam(logits, lr=_RATE)
    for step in range(steps):
        loss = _loss(mixer, clips.clip(step), [x.sigmoid() for x in logits], song.roles, wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress(step + 1, steps, f"loss {loss.detach():.3f}")
    found = logits[0].detach().sigmoid(), logits[1].detach().sigmoid()
    judged = [Clips([song], seconds, mixer.channels, seed + 1).clip(k) for k in range(_JUDGED)]
    before = _judge(mixer, judged, settings, song.roles, wanted)
    after = _judge(mixer, judged, found, song.roles, wanted) if steps else before
    return Refined(found if after < before else settings, before, after)


@torch.no_grad()
def _judge(mixer: Mixer, clips: list[Clip], settings: Settings, roles: tuple[str, ...], wanted: Loss) -> float:
    return float(np.mean([float(_loss(mixer, clip, settings, roles, wanted)) for clip in clips]))


def _loss(mixer: Mixer, clip: Clip, settings: Settings | list[Tensor], roles: tuple[str, ...], wanted: Loss) -> Tensor:
    tracks = torch.from_numpy(clip.tracks)
    if len(tracks) != len(roles):
        raise DataError(f"A track of {clip.song} cannot be read; replace its file.")
    wet = mixer.console(tracks, torch.zeros(len(tracks), dtype=torch.long), *settings, role=roles)
    return wanted(wet, clip)


def _own_mix(sample_rate: float) -> Loss:
    loss = MixLoss(sample_rate)

    def wanted(wet: Tensor, clip: Clip) -> Tensor:
        assert clip.mix is not None
        return loss(wet, torch.from_numpy(clip.mix)[None])

    return wanted


def _sound_of(reference: Audio, sample_rate: float) -> Loss:
    length = round(_SECONDS * sample_rate)
    if reference.shape[1] < sample_rate:
        raise ParameterError(
            f"A reference must be 1 s or longer, got {reference.shape[1] / sample_rate:.2f} s; give a longer one."
        )
    heard, stereo = MixFeatures(sample_rate), torch.from_numpy(to_channels(reference, 2))
    pieces = [piece for piece in stereo.split(length, dim=1) if piece.shape[1] >= sample_rate]
    loud = [piece for piece in pieces if float(piece.abs().max()) > _EDGE] or pieces
    with torch.no_grad():
        each = [heard(piece[None]) for piece in loud]
    mean = {name: torch.stack([found[name] for found in each]).mean(0) for name in each[0] if name != "mel"}
    return lambda wet, clip: sound_distance(heard(wet), mean)

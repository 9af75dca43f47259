"""Mixes that need no training, to compare with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from blackbox_fx.audio.loudness import loudness
from blackbox_fx.dsp.mixing import place, side_gains
from blackbox_fx.tasks.mixing.features import listen

_LUFS, _SILENT_LUFS = -23.0, -60.0  # of each track, and below which it stays as it is
_LEAD_DB = {"vocals": 4.0, "kick": 2.0, "snare": 1.0, "bass": 1.0}  # over other tracks
_CENTRED = ("vocals", "kick", "snare", "bass", "drums")
_LOW_HZ = 300.0  # brightness below which a track stays in the middle
_WIDEST = 0.7


def equal_loudness(tracks: Tensor, sample_rate: float) -> Tensor:
    """The sum of tracks that are all as loud, (2, time).

    Args:
        tracks: (track, channel, time).
        sample_rate: in Hz.
    """
    return place(tracks, _gains(tracks, sample_rate)[:, None, None].expand(-1, 2, 1) / 2**0.5).sum(0)


def rule_based(tracks: Tensor, sample_rate: float, roles: Sequence[str]) -> Tensor:
    """A mix by rules of thumb, (2, time): all tracks as loud, lead vocals and the beat above the others, low and lead
    tracks in the middle, the others by turns to the left and to the right, further the brighter they are.

    Args:
        tracks: (track, channel, time).
        sample_rate: in Hz.
        roles: what each track is, see `role_of`.

    References:
        "Automatic mixing: live downmixing stereo panner" (Perez-Gonzalez and Reiss, 2007); "A knowledge-engineered
        autonomous mixing system" (De Man and Reiss, 2013).
    """
    gains = _gains(tracks, sample_rate) * torch.tensor([10 ** (_LEAD_DB.get(role, 0.0) / 20) for role in roles])
    octaves = 2 * listen(tracks, sample_rate)[1]  # above 700 Hz
    free = [k for k, role in enumerate(roles) if role not in _CENTRED and 700 * 2 ** float(octaves[k]) > _LOW_HZ]
    places = torch.zeros(len(tracks))
    for turn, k in enumerate(sorted(free, key=lambda k: -float(octaves[k]))):
        places[k] = (1 if turn % 2 else -1) * _WIDEST * (1 - turn / len(free) / 2)
    db = 20 * gains.clamp(min=1e-6).log10()
    return place(tracks, side_gains(db, places)).sum(0)


def _gains(tracks: Tensor, sample_rate: float) -> Tensor:
    """That make each track equally loud; silent ones stay as they are, (track,)."""
    found = [loudness(track.numpy(), sample_rate) for track in tracks]
    return torch.tensor([10 ** ((_LUFS - x) / 20) if x > _SILENT_LUFS else 1.0 for x in found], dtype=torch.float32)

"""Modules that route audio through layers."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from blackbox_fx.dsp import TWINS
from blackbox_fx.errors import AudioError, ParameterError
from blackbox_fx.layer import BlackBox


@final
class Console(nn.Module):
    """A mixing console: the same channel strip for every track, gain and pan, a sum, and a mix bus.

    Strip and bus are black boxes; gain, pan and sum are exact. Tracks of several songs go through together: `song` says
    which mix each belongs to, so songs may have any number of tracks.

    Args:
        strip: the channel strip, or None for a wire.
        bus: the effect on the stereo mix, or None for a wire.
        gain_db: range of the faders.

    Shape:
        - tracks: (track, channel, time), one channel or two
        - song: (track,) integers in [0, mixes)
        - track_params: (track, track_width) in [0, 1]: strip, gain, pan
        - bus_params: (mixes, bus_width) in [0, 1]
        - output: (mixes, 2, time)

    Raises:
        AudioError, ParameterError: shapes that do not fit together; see `BlackBox` for others.
    """

    def __init__(
        self, strip: BlackBox | None, bus: BlackBox | None, gain_db: tuple[float, float] = (-24.0, 12.0)
    ) -> None:
        super().__init__()
        self.strip = strip
        self.bus = bus
        rates = {layer.sample_rate for layer in (strip, bus) if layer is not None} or {44100.0}
        if len(rates) > 1:
            raise AudioError(f"strip and bus have sample rates {sorted(rates)} Hz; a console needs one for both.")
        self.sample_rate = rates.pop()
        twin = TWINS["gain_pan"]
        self.gain_pan = type(twin)(twin.name, twin.function, twin.space.within(gain_db=gain_db))

    @property
    def track_columns(self) -> tuple[str, ...]:
        """A name for every column of track_params."""
        return (*(self.strip.effect.space.columns if self.strip else ()), *self.gain_pan.space.columns)

    @property
    def bus_columns(self) -> tuple[str, ...]:
        """A name for every column of bus_params."""
        return self.bus.effect.space.columns if self.bus else ()

    @property
    def track_width(self) -> int:
        """How many columns track_params has."""
        return len(self.track_columns)

    @property
    def bus_width(self) -> int:
        """How many columns bus_params has."""
        return len(self.bus_columns)

    def forward(self, tracks: Tensor, song: Tensor, track_params: Tensor, bus_params: Tensor) -> Tensor:
        """The mixes; see the class for shapes and errors."""
        self._check(tracks, song, track_params, bus_params)
        strip_params, fader_params = track_params.split([self.track_width - 2, 2], dim=1)
        wet = self.strip(tracks, strip_params) if self.strip else tracks
        placed = self.gain_pan(wet, fader_params, self.sample_rate)
        mix = placed.new_zeros(len(bus_params), 2, tracks.shape[-1]).index_add(0, song, placed)
        return self.bus(mix, bus_params) if self.bus else mix

    def _check(self, tracks: Tensor, song: Tensor, track_params: Tensor, bus_params: Tensor) -> None:
        if tracks.ndim != 3 or tracks.shape[1] not in (1, 2):
            raise AudioError(f"tracks must be (track, 1 or 2 channels, time), got {tuple(tracks.shape)}.")
        for name, params, wanted in (
            ("track_params", track_params, (len(tracks), self.track_width)),
            ("bus_params", bus_params, (len(bus_params), self.bus_width)),
        ):
            if tuple(params.shape) != wanted:
                raise ParameterError(f"{name} must have shape {wanted}, got {tuple(params.shape)}.")
        mixes = len(bus_params)
        if song.shape != (len(tracks),) or not bool(((song >= 0) & (song < mixes)).all()):
            raise ParameterError(f"song must name one of {mixes} mixes for each of {len(tracks)} tracks.")


def join(songs: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Tracks of several songs, each (track, channel, time), as `Console` takes them: side by side, with their song."""
    song = torch.cat([torch.full((len(tracks),), k, device=tracks.device) for k, tracks in enumerate(songs)])
    return torch.cat(songs), song

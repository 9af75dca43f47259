"""A mixing console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from blackbox_fx.dsp import TWINS
from blackbox_fx.effects.further import say_silent
from blackbox_fx.errors import AudioError, ParameterError
from blackbox_fx.estimators import AudioRule, Estimator
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.layers.chain import as_layer, common_rate, further_inputs
from blackbox_fx.runtime import Pool

_INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64)


@final
class Console(nn.Module):
    """A mixing console: the same channel strip for every track, gain and pan, a sum, and a mix bus.

    Strip and bus are black boxes; gain, pan and sum are exact. Tracks of several songs go through together: `song` says
    which mix each belongs to, so songs may have any number of tracks.

    Args:
        strip: the channel strip: an effect, a list of effects in series, a layer, or None for a wire.
        bus: the same for the stereo mix; its further inputs, which no key reaches, get silence.
        gain_db: range of the faders.
        estimator, audio_rule: for bare effects, a copy for each.
        pool: where bare effects render.
        sample_rate: in Hz; that of the layers, or 44100, if not given.

    Shape:
        - tracks: (track, channel, time), one channel or two
        - song: (track,) integers in [0, mixes)
        - track_params: (track, track_width) in [0, 1]: strip, gain, pan
        - bus_params: (mixes, bus_width) in [0, 1]
        - key: (track,) integers, for a strip with a further input such as a side-chain: which other track is the key of
          each, as it comes in, or -1 for silence
        - output: (mixes, 2, time)

    Raises:
        AudioError, ParameterError: shapes that do not fit together, a key that names no other track of its song; see
            `BlackBox` for others.
    """

    def __init__(
        self,
        strip: Any = None,
        bus: Any = None,
        gain_db: tuple[float, float] = (-24.0, 12.0),
        *,
        estimator: Estimator | None = None,
        audio_rule: AudioRule | None = None,
        pool: Pool | None = None,
        sample_rate: float | None = None,
    ) -> None:
        super().__init__()
        self.sample_rate = common_rate("Console", (strip, bus), sample_rate)

        def layer(given: Any, what: str) -> Any:
            if given is None:
                return None
            return as_layer(given, estimator, audio_rule, pool, self.sample_rate, f"The {what} of a Console")

        self.strip = layer(strip, "strip")
        self.bus = layer(bus, "bus")
        twin = TWINS["gain_pan"]
        self.gain_pan = type(twin)(twin.name, twin.function, twin.space.within(gain_db=gain_db))

    @property
    def track_columns(self) -> tuple[str, ...]:
        """A name for every column of track_params."""
        return (*(self.strip.columns if self.strip else ()), *self.gain_pan.space.columns)

    @property
    def bus_columns(self) -> tuple[str, ...]:
        """A name for every column of bus_params."""
        return self.bus.columns if self.bus else ()

    @property
    def track_width(self) -> int:
        """How many columns track_params has."""
        return len(self.track_columns)

    @property
    def bus_width(self) -> int:
        """How many columns bus_params has."""
        return len(self.bus_columns)

    def decode(self, track_params: Any, bus_params: Any) -> dict[str, Any]:
        """Columns in [0, 1] to physical settings.

        Args:
            track_params: (track, track_width).
            bus_params: (mixes, bus_width).

        Returns:
            {"tracks": [{"strip": {...}, "gain_db": ..., "pan": ...}, ...], "buses": [{...}, ...]}.
        """
        rows, buses = torch.as_tensor(track_params), torch.as_tensor(bus_params)
        strips = self.strip.decode(rows[:, :-2]) if self.strip else [{} for _ in rows]
        faders = self.gain_pan.space.decode(rows[:, -2:])
        return {
            "tracks": [{"strip": strip, **fader} for strip, fader in zip(strips, faders, strict=True)],
            "buses": self.bus.decode(buses) if self.bus else [{} for _ in buses],
        }

    def encode(self, settings: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
        """What `decode` gave, to (track, track_width) and (mixes, bus_width) in [0, 1]."""
        tracks: list[Tensor] = []
        for track in settings["tracks"]:
            faders = {name: value for name, value in track.items() if name != "strip"}
            own = torch.from_numpy(self.gain_pan.space.encode(faders)).float()
            tracks.append(torch.cat([self.strip.encode(track.get("strip", {})), own]) if self.strip else own)
        buses = self.bus.encode(settings["buses"]) if self.bus else torch.zeros(len(settings["buses"]), 0)
        return torch.stack(tracks), buses

    def forward(
        self,
        tracks: Tensor,
        song: Tensor,
        track_params: Tensor,
        bus_params: Tensor | None = None,
        key: Tensor | None = None,
        **named: Any,
    ) -> Tensor:
        """The mixes; see the class for shapes and errors."""
        if named:
            raise ParameterError(
                f"A Console takes no {next(iter(named))}=; write key=..., which names the track that each track hears."
            )
        if bus_params is None:
            raise ParameterError(
                f"bus_params must be (mixes, {self.bus_width}), got None; give a row for each mix, of no columns where "
                "there is no bus."
            )
        self._check(tracks, song, track_params, bus_params)
        strip_params, fader_params = track_params.split([self.track_width - 2, 2], dim=1)
        wet = self.strip(tracks, strip_params, **self._keys(tracks, song, key)) if self.strip else tracks
        placed = self.gain_pan(wet, fader_params, self.sample_rate)
        mix = placed.new_zeros(len(bus_params), 2, tracks.shape[-1]).index_add(0, song, placed)
        if not self.bus:
            return mix
        silence = {name: torch.zeros_like(mix[:, :1]) for name in further_inputs(self.bus)}
        return self.bus(mix, bus_params, silence)

    def _keys(self, tracks: Tensor, song: Tensor, key: Tensor | None) -> dict[str, Any]:
        """The further inputs of the strip: for each track the one that is its key, as it comes in."""
        known = further_inputs(self.strip)
        if key is None:
            self._say_silent(known)
            return {}
        if len(known) != 1:
            raise ParameterError(
                f"The strip of this Console has the inputs {', '.join(known) or 'none'}, and key needs exactly one; "
                "leave key out, or choose an effect with a side-chain."
            )
        _check_key(key, song)
        heard = tracks[key.clamp(min=0).long()] * (key >= 0).to(tracks)[:, None, None]
        return {"inputs": {known[0]: heard}}

    def _say_silent(self, known: Sequence[str]) -> None:
        """Says which effects of the strip lack a key that `key` could give them."""
        for layer in self.strip.modules() if len(known) == 1 else ():
            if isinstance(layer, BlackBox):
                say_silent(layer.effect.name, layer.effect.inputs, "key=...")

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


def _check_key(key: Any, song: Tensor) -> None:
    """Raises ParameterError unless a key has the number of another track of the song, or -1, for each track."""
    tracks, songs = len(song), song.tolist()
    if not isinstance(key, Tensor):
        raise ParameterError(f"key must be a tensor of integers, got {type(key).__name__}; see torch.tensor.")
    if key.shape != (tracks,) or key.dtype not in _INTEGERS:
        raise ParameterError(
            f"key must be ({tracks},) integers, the number of a track or -1 for each track, got {tuple(key.shape)} "
            f"{key.dtype}."
        )
    for track, heard in enumerate(key.tolist()):
        if not -1 <= heard < tracks or heard == track or (heard >= 0 and songs[heard] != songs[track]):
            raise ParameterError(
                f"key must name one of {tracks} tracks for each, another one of the same song, got {heard} for track "
                f"{track}; write -1 for silence."
            )


def join(songs: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Tracks of several songs, each (track, channel, time), as `Console` takes them: side by side, with their song."""
    song = torch.cat([torch.full((len(tracks),), k, device=tracks.device) for k, tracks in enumerate(songs)])
    return torch.cat(songs), song

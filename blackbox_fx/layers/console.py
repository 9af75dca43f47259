"""A mixing console."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor

from blackbox_fx.dsp.mixing import place
from blackbox_fx.effects.further import say_silent
from blackbox_fx.errors import AudioError, ParameterError
from blackbox_fx.layers.automation import Curves, curves_below
from blackbox_fx.layers.black_box import BlackBox
from blackbox_fx.layers.chain import further_inputs
from blackbox_fx.layers.desk import GAIN, PAN, Desk
from blackbox_fx.layers.direct import Direct
from blackbox_fx.layers.picture import console_svg
from blackbox_fx.layers.routing import INTEGERS, LEVEL, MIX_BUS, audible, check_key, gain, sum_by_song, tracks_of
from blackbox_fx.layers.stages import stages_of, together


@final
class Console(Desk):
    """A mixing console: channel strips, faders and places in the stereo image, groups, sends, and a mix bus.

    Strips, groups, returns and bus are black boxes, or twins and proxies in their place; gains, places and sums are
    exact. Tracks of several songs go through together: `song` says which mix each belongs to, so songs may have any
    number of tracks. Where tracks differ in what they go through, `role` says what each is, such as "vocals".

    Args:
        strip: the channel strip of all tracks whose role has none of its own: an effect, a list or mapping of effects
            in series, a twin, a proxy, a `Bypass`, a layer, or None for a wire.
        bus: the same for the stereo mix. Its further inputs, and those of groups and returns, get silence.
        gain_db: range of the faders of tracks.
        strips: strips by role, such as {"vocals": [eq, comp]}.
        groups: groups by name, such as {"drums": Bus(["kick", "snare"], comp)}; tracks of other roles go to the mix.
        sends: sends by name, such as {"room": Send(reverb)}, for all tracks.
        keys: for strips with a further input such as a side-chain: which role each role hears, such as {"bass":
            "kick"}. A track hears the sum of those tracks of its song, as they come in.
        estimator, audio_rule: for bare effects, a copy for each.
        pool: where bare effects render.
        sample_rate: in Hz; that of the layers, or 44100, if not given.
        direct: True for twins and proxies in place of all bare effects, so that nothing renders; False for black boxes
            in place of twins and proxies. See `Chain`.

    Shape:
        - tracks: (track, channel, time), one channel or two
        - song: (track,) integers in [0, mixes)
        - track_params: (track, track_width) in [0, 1], see `track_columns`; columns of strips that a track does not go
          through have no influence
        - bus_params: (mixes, bus_width) in [0, 1], see `bus_columns`
        - key: (track,) integers, in place of `keys`: which other track is the key of each, or -1 for silence
        - role: a name for each track; needed if there are strips, groups or keys by role
        - mute, solo: (track,) bool: tracks that are silent; if any track of a song is solo, all others are
        - curves: `Curve`s by column, in place of those of track_params or bus_params, with a row for each track or
          mix. Gains, places and levels move sample by sample, effects as `BlackBox` says
        - output: (mixes, 2, time)

    Raises:
        AudioError, ParameterError: shapes that do not fit together, names that do not fit, a key that names no other
            track of its song; see `BlackBox` for others.

    >>> from blackbox_fx.dsp import TWINS
    >>> from blackbox_fx.layers.routing import Bus, Send
    >>> room = TWINS["reverberation"].fix(dry_db=-96)
    >>> console = Console(sends={"room": Send(room)}, groups={"drums": Bus(["kick", "snare"])})
    >>> console.track_columns
    ('gain_db', 'pan', 'room.level_db')
    """

    def forward(
        self,
        tracks: Tensor,
        song: Tensor,
        track_params: Tensor,
        bus_params: Tensor | None = None,
        key: Tensor | None = None,
        *,
        role: Sequence[str] | None = None,
        mute: Tensor | None = None,
        solo: Tensor | None = None,
        curves: Curves = {},
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
        song = song.long()
        roles = self.check_roles(role, len(tracks))
        moving = self._moving(curves, tracks, len(bus_params))
        own, faders, sends = self.split_tracks(track_params)
        wet = self._through_strips(tracks, song, own, roles, key, curves)
        placed = self._place(wet, faders, moving, audible(mute, solo, song, len(bus_params)))
        parts = self.split_buses(bus_params)
        sums = self._sums(placed, song, roles, sends, moving, len(bus_params))
        buses = together([self.part_stages(name, each, parts[name], curves) for name, each in sums.items()])
        alone = torch.tensor(self.alone(roles), dtype=torch.long, device=song.device)
        mixed = sum_by_song(placed[0][alone] if len(alone) < len(song) else placed[0], song[alone], len(bus_params))
        for name, bus in zip(sums, buses, strict=True):
            mixed = mixed + (bus * self._level(name, parts[name], moving).to(bus) if name in self.routes else bus)
        return self.through(MIX_BUS, mixed, parts[MIX_BUS], curves)

    def _level(self, group: str, params: Tensor, moving: Mapping[str, Tensor]) -> Tensor:
        """The gain of a group's fader, (mixes, 1, 1 or time)."""
        return gain(moving.get(f"{group}.{LEVEL}", params[:, -1:]), self.routes[group].level_db)[:, None]

    def _repr_svg_(self) -> str:
        """The picture that notebooks show, see `console_svg`."""
        return console_svg(self)

    def _through_strips(
        self,
        tracks: Tensor,
        song: Tensor,
        own: Mapping[str, Tensor],
        roles: Sequence[str],
        key: Tensor | None,
        curves: Curves,
    ) -> list[tuple[Tensor, Tensor]]:
        """For each strip, the numbers of its tracks and what comes out, (track, 1 or 2, time)."""
        if key is not None:
            self._check_key(key, song)
        chosen_by_strip, runs = [], []
        for label, role_names in self.users(roles).items():
            chosen = tracks_of(roles, role_names, tracks.device)
            strip = self.strip_of(role_names[0])[1]
            every = len(chosen) == len(tracks)
            audio = tracks if every else tracks[chosen]
            chosen_by_strip.append(chosen)
            if strip is None:
                runs.append(stages_of(None, audio, song))
                continue
            params = own[label] if every else own[label][chosen]
            inputs = self._key_audio(strip, tracks, song, roles, chosen, key)
            moving = curves_below(curves, label, strip.columns)
            moving = {name: curve.rows(chosen.to(curve.points.device)) for name, curve in moving.items()}
            runs.append(stages_of(strip, audio, params, inputs, moving))
        return list(zip(chosen_by_strip, together(runs), strict=True))

    def _key_audio(
        self, strip: Any, tracks: Tensor, song: Tensor, roles: Sequence[str], chosen: Tensor, key: Tensor | None
    ) -> dict[str, Tensor]:
        """The further input of some tracks in a strip: the track, or the tracks of a role, that are their key."""
        known = further_inputs(strip)
        if key is not None and known:
            source_audio = tracks[key.clamp(min=0).long()] * (key >= 0).to(tracks)[:, None, None]
            return {known[0]: source_audio[chosen]}
        numbers: list[int] = chosen.tolist()
        sources = [self.keys.get(roles[k], "") for k in numbers]
        if len(known) != 1 or not any(source and source in roles for source in sources):
            _say_silent(strip, known)
            return {}
        mixes = int(song.max()) + 1
        source_audio = torch.zeros_like(tracks[chosen])
        for source in dict.fromkeys(filter(None, sources)):
            players = tracks_of(roles, [source], tracks.device)
            key_audio = sum_by_song(tracks[players], song[players], mixes)
            listens = torch.tensor([each == source for each in sources], device=tracks.device)
            source_audio = source_audio + key_audio[song[chosen]] * listens[:, None, None].to(tracks)
        return {known[0]: source_audio}

    def _place(
        self,
        wet: Sequence[tuple[Tensor, Tensor]],
        faders: Tensor,
        moving: Mapping[str, Tensor],
        sounding: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """All tracks in stereo, behind their faders and before them, (track, 2, time)."""
        columns = [moving.get(name, faders[:, k : k + 1]) for k, name in enumerate((GAIN, PAN))]
        behind, before = self.fader_gains(*columns)
        if sounding is not None:
            silent = torch.zeros((), device=faders.device)
            wet = [(chosen, torch.where(sounding[chosen][:, None, None], audio, silent)) for chosen, audio in wet]

        def stereo(gains: Tensor) -> Tensor:
            parts = [place(audio, gains[chosen]) for chosen, audio in wet]
            if len(parts) == 1 and len(wet[0][0]) == len(faders):
                return parts[0]
            order = torch.cat([chosen for chosen, _ in wet])
            return torch.cat(parts)[order.argsort()]

        placed = stereo(behind)
        return placed, placed if before is behind else stereo(before)

    def _sums(
        self,
        tracks: tuple[Tensor, Tensor],
        song: Tensor,
        roles: Sequence[str],
        sends: Tensor,
        moving: Mapping[str, Tensor],
        mixes: int,
    ) -> dict[str, Tensor]:
        """What goes into each group and return, (mixes, 2, time); tracks are those behind their faders and before."""
        placed, early = tracks
        found = {}
        for name, group in self.routes.items():
            members = tracks_of(roles, group.roles, placed.device)
            found[name] = sum_by_song(placed[members], song[members], mixes)
        order = torch.tensor(self.order(roles), device=song.device) if self.routes else None
        for k, (name, send) in enumerate(self.sends.items()):
            level = gain(moving.get(f"{name}.{LEVEL}", sends[:, k : k + 1]), send.level_db)
            sent = (early if send.pre else placed) * level[:, None].to(placed)
            found[name] = sum_by_song(*((sent, song) if order is None else (sent[order], song[order])), mixes)
        return found

    def _moving(self, curves: Curves, tracks: Tensor, mixes: int) -> dict[str, Tensor]:
        """The gains, places and levels that move, (track or mix, time)."""
        self.check_curves(curves, len(tracks), mixes)
        time, device = tracks.shape[-1], tracks.device
        exact = {GAIN, PAN, *(f"{name}.{LEVEL}" for name in (*self.sends, *self.routes))}
        return {n: c.samples(time, self.sample_rate).to(device) for n, c in curves.items() if n in exact}

    def _check_key(self, key: Any, song: Tensor) -> None:
        known = {name for _, strip in self.all_strips() for name in further_inputs(strip)}
        if len(known) != 1:
            raise ParameterError(
                f"The strip of this Console has the inputs {', '.join(sorted(known)) or 'none'}, and key needs exactly "
                "one; leave key out, or choose an effect with a side-chain."
            )
        check_key(key, song)

    def _check(self, tracks: Tensor, song: Tensor, track_params: Tensor, bus_params: Tensor) -> None:
        if tracks.ndim != 3 or tracks.shape[1] not in (1, 2) or not len(tracks) or not tracks.is_floating_point():
            raise AudioError(
                f"tracks must be (track, 1 or 2 channels, time) of floating point, one track or more, got "
                f"{tuple(tracks.shape)} {tracks.dtype}."
            )
        mixes = len(bus_params)
        self.check_params(track_params, bus_params, len(tracks), mixes)
        whole = song.shape == (len(tracks),) and song.dtype in INTEGERS
        if not whole or not bool(((song >= 0) & (song < mixes)).all()):
            raise ParameterError(f"song must name one of {mixes} mixes for each of {len(tracks)} tracks, as integers.")


def _say_silent(strip: Any, known: Sequence[str]) -> None:
    """Says which effects of a strip lack a key that a call could give them."""
    for layer in strip.modules() if len(known) == 1 else ():
        if isinstance(layer, BlackBox | Direct):
            effect = layer.effect if isinstance(layer, BlackBox) else layer.model
            say_silent(effect.name, layer.effect.inputs if isinstance(layer, BlackBox) else layer.inputs, "key=...")


def join(songs: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Tracks of several songs, each (track, channel, time), as `Console` takes them: side by side, with their song."""
    song = torch.cat([torch.full((len(tracks),), k, device=tracks.device) for k, tracks in enumerate(songs)])
    return torch.cat(songs), song

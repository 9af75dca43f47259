"""Where the tracks of a console go: which strip, group, key and sends they have, by their roles."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from blackbox_fx.core import checks
from blackbox_fx.errors import ParameterError

_LOWEST_DB, _HIGHEST_DB = -200.0, 60.0
INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64)
MIX_BUS, LEVEL = "bus", "level_db"


@final
class Parts(nn.Module):
    """Layers by names, which may be any words, also those of torch's own methods, such as "keys".

    Args:
        layers: by name.

    Raises:
        ParameterError: a name that is empty or has a dot.
    """

    def __init__(self, layers: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for name in layers:
            if not isinstance(name, str) or not name or "." in name:
                raise ParameterError(f"The name of a part of a Console must be a text without a dot, and not {name!r}.")
        self.names, self.layers = tuple(layers), nn.ModuleList(layers.values())

    def items(self) -> Iterator[tuple[str, Any]]:
        """Names and layers."""
        return zip(self.names, self.layers, strict=True)

    def __getitem__(self, name: str) -> Any:
        return self.layers[self.names.index(name)]

    def __contains__(self, name: object) -> bool:
        return name in self.names

    def __len__(self) -> int:
        return len(self.names)


@final
@dataclasses.dataclass(frozen=True)
class Bus:
    """A group of a `Console`: tracks of some roles, summed, through an effect, behind a fader of their own.

    Args:
        roles: of its tracks, such as ("kick", "snare").
        effect: an effect, a list or mapping of effects in series, a twin, a proxy, a layer, or None for a wire.
        level_db: range of the fader.

    Raises:
        ParameterError: no roles, or a range that makes no sense.
    """

    roles: Sequence[str]
    effect: Any = None
    level_db: tuple[float, float] = (-24.0, 12.0)

    def __post_init__(self) -> None:
        if (
            not isinstance(self.roles, (list, tuple))
            or not self.roles
            or not all(isinstance(role, str) for role in self.roles)
        ):
            raise ParameterError(f'roles must be a list of names, such as ["kick", "snare"], got {self.roles!r:.80}.')
        check_range("level_db", self.level_db)


@final
@dataclasses.dataclass(frozen=True)
class Send:
    """A send of a `Console`, with its return: every track goes there at a level of its own, and is heard in the mix.

    The effect renders once for each mix, whatever the number of tracks.

    Args:
        effect: as of a `Bus`.
        level_db: range of the levels of tracks.
        pre: whether tracks go there from before their faders, at their place in the stereo image.

    Raises:
        ParameterError: a range that makes no sense.
    """

    effect: Any
    level_db: tuple[float, float] = (-60.0, 6.0)
    pre: bool = False

    def __post_init__(self) -> None:
        check_range("level_db", self.level_db)
        checks.one_of("pre", self.pre, (True, False))


def check_range(name: str, given: Any) -> tuple[float, float]:
    """A range in dB. Raises ParameterError unless it is one."""
    pair = isinstance(given, (list, tuple)) and len(given) == 2 and all(map(checks.is_number, given))
    low, high = given if pair else (0.0, 0.0)
    if not _LOWEST_DB <= low < high <= _HIGHEST_DB:
        raise ParameterError(
            f"{name} must be (low, high) in dB within [{_LOWEST_DB:g}, {_HIGHEST_DB:g}], got {given!r}."
        )
    return float(low), float(high)


def gain(params: Tensor, level_db: tuple[float, float]) -> Tensor:
    """Amplitudes of faders whose columns in [0, 1] are given, of any shape."""
    low, high = level_db
    return 10 ** ((low + (high - low) * params.clamp(0, 1)) / 20)


def check_roles(role: Any, tracks: int, wanted: bool) -> tuple[str, ...]:
    """The role of each track; "" for all if none are wanted.

    Raises:
        ParameterError: none where they are wanted, or not one name for each track.
    """
    if role is None:
        if wanted:
            raise ParameterError(
                f"This Console goes by roles; write role=[...] with a name for each of {tracks} tracks."
            )
        return ("",) * tracks
    if isinstance(role, str) or not isinstance(role, Sequence) or not all(isinstance(each, str) for each in role):
        raise ParameterError(f"role must be a list of names, one for each track, got {role!r:.80}.")
    if len(role) != tracks:
        raise ParameterError(f"role must have a name for each of {tracks} tracks, got {len(role)}.")
    return tuple(role)


def check_names(names: Any, tracks: int) -> tuple[str, ...]:
    """A name for each track. Raises ParameterError if they are not that."""
    if isinstance(names, str) or not isinstance(names, Sequence) or len(names) != tracks:
        raise ParameterError(f"names must be a list of {tracks}, one for each track, got {names!r:.80}.")
    return tuple(map(str, names))


def tracks_of(role: Sequence[str], wanted: Iterable[str], device: torch.device) -> Tensor:
    """The numbers of the tracks that have one of the wanted roles."""
    names = set(wanted)
    return torch.tensor([k for k, each in enumerate(role) if each in names], dtype=torch.long, device=device)


def check_groups(groups: Mapping[str, Bus]) -> None:
    """Raises ParameterError if a role is in two groups."""
    seen: dict[str, str] = {}
    for name, group in groups.items():
        for role in group.roles:
            if role in seen:
                raise ParameterError(f"The role {role!r} is in the groups {seen[role]} and {name}; leave one out.")
            seen[role] = name


def sum_by_song(tracks: Tensor, song: Tensor, mixes: int) -> Tensor:
    """The sum of the tracks of each song, (mixes, channel, time)."""
    return tracks.new_zeros(mixes, *tracks.shape[1:]).index_add(0, song, tracks)


def audible(mute: Any, solo: Any, song: Tensor, mixes: int) -> Tensor | None:
    """Which tracks sound, (track,) bool; None for all."""
    for name, given in (("mute", mute), ("solo", solo)):
        if given is not None and (
            not isinstance(given, Tensor) or given.shape != song.shape or given.dtype != torch.bool
        ):
            raise ParameterError(
                f"{name} must be a tensor of {len(song)} bools, one for each track, got {given!r:.60}."
            )
    sounding = None if mute is None else ~mute
    if solo is not None:
        alone = torch.zeros(mixes, dtype=torch.long, device=song.device).index_add(0, song, solo.long())[song] > 0
        picked = solo | ~alone
        sounding = picked if sounding is None else sounding & picked
    return sounding


def check_key(key: Any, song: Tensor) -> None:
    """Raises ParameterError unless a key has the number of another track of the song, or -1, for each track."""
    tracks, songs = len(song), song.tolist()
    if not isinstance(key, Tensor):
        raise ParameterError(f"key must be a tensor of integers, got {type(key).__name__}; see torch.tensor.")
    if key.shape != (tracks,) or key.dtype not in INTEGERS:
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


def check_parts(groups: Any, sends: Any) -> None:
    """Raises ParameterError unless groups are `Bus`es and sends `Send`s, with names of their own."""
    for name, given, kind in [*((n, g, Bus) for n, g in groups.items()), *((n, s, Send) for n, s in sends.items())]:
        if not isinstance(given, kind):
            raise ParameterError(f"{name} must be a {kind.__name__}, got {given!r:.60}; see bfx.{kind.__name__}.")
        if name == MIX_BUS or (name in groups and name in sends):
            raise ParameterError(
                f"A group or send of a Console cannot be called {name!r}, as another part is; rename it."
            )
    check_groups(groups)

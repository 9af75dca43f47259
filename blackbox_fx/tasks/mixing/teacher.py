"""Who mixes what a network learns from: engineers of real songs, or an invented one."""

from __future__ import annotations

import abc
from typing import final

import torch
from torch import Tensor, nn

from blackbox_fx.data.clips import Clip
from blackbox_fx.errors import DataError
from blackbox_fx.layers.console import Console
from blackbox_fx.losses import MultiResolutionSTFT
from blackbox_fx.tasks.mixing.features import listen
from blackbox_fx.tasks.mixing.measures import MixLoss

_REACH = 0.35  # of an invented engineer's settings to either side of the middle


class Teacher(abc.ABC):
    """Gives the mixes that a network shall reach through a console.

    Args:
        console: that the network operates.

    Attributes:
        name: for tables and pages.
        channels: of the tracks.
        endless: whether excerpts cost no renders, so that there are always new ones.
        level_counts: whether a mix must be as loud as its target.
    """

    name: str
    channels: int = 1
    endless: bool = False
    level_counts: bool = True

    def __init__(self, console: Console) -> None:
        self.console, self.sample_rate = console, console.sample_rate

    @abc.abstractmethod
    def target(self, tracks: Tensor, song: Tensor, clip: Clip) -> Tensor:
        """The mix of one excerpt, (2, time), of tracks (track, channel, time)."""

    def decide(self, tracks: Tensor, song: Tensor, mixes: int) -> tuple[Tensor, Tensor] | None:
        """The settings of the mix, (track, track_width) and (mixes, bus_width), where they are known."""
        return None

    def distance(self) -> nn.Module:
        """How far a mix is from that of the teacher."""
        return MultiResolutionSTFT()


@final
class RealMixes(Teacher):
    """The mixes that songs come with. Levels are matched, since masters are as loud as their engineers wanted.

    Args:
        console: that the network operates.
        channels: of the tracks: 1 halves the renders where all are mono.
    """

    name = "real mix"
    endless = True
    level_counts = False

    def __init__(self, console: Console, channels: int = 2) -> None:
        super().__init__(console)
        self.channels = channels

    def target(self, tracks: Tensor, song: Tensor, clip: Clip) -> Tensor:
        """The excerpt of the real mix."""
        if clip.mix is None:
            raise DataError(f"The song {clip.song!r} has no mix to learn from; leave it out.")
        return torch.from_numpy(clip.mix)

    def distance(self) -> nn.Module:
        """Of spectra and features, at equal levels."""
        return MixLoss(self.sample_rate)


@final
class InventedEngineer(Teacher):
    """Sets any console by random smooth rules of level, brightness and punch of the tracks.

    Args:
        console: that is set.
        seed: of the rules.
    """

    name = "invented engineer's mix"

    def __init__(self, console: Console, seed: int = 0) -> None:
        super().__init__(console)
        draw = torch.Generator().manual_seed(seed)
        self.rules = [torch.randn(3, width, generator=draw) for width in (console.track_width, console.bus_width)]

    def target(self, tracks: Tensor, song: Tensor, clip: Clip) -> Tensor:
        """What the console gives at the engineer's settings."""
        return self.console(tracks, song, *self.decide(tracks, song, 1), role=clip.roles)[0]

    def decide(self, tracks: Tensor, song: Tensor, mixes: int) -> tuple[Tensor, Tensor]:
        """The settings."""
        heard = torch.stack(listen(tracks, self.sample_rate), 1)
        blank = heard.new_zeros(mixes, heard.shape[1])
        whole = blank.scatter_reduce(0, song[:, None].expand_as(heard), heard, "mean", include_self=False)
        rows, buses = (0.5 + _REACH * torch.tanh(x @ rule) for x, rule in zip((heard, whole), self.rules, strict=True))
        return rows, buses

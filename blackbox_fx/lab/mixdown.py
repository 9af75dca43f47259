"""What a whole song through a console costs, beside the bare renders of its effects."""

from __future__ import annotations

import dataclasses
from typing import final

from blackbox_fx import isolation
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.effects import scanning
from blackbox_fx.errors import EffectError

EQUALISER, INSTEAD = "vst3:ZamEQ2", "pedalboard:PeakFilter"
_WORKER = "blackbox_fx.lab.mixdown_worker"
_SILENCE_S = 60.0  # for each minute of the song; a report comes for every track


@final
@dataclasses.dataclass(frozen=True)
class SongCost:
    """What one song costs, in one thread.

    Args:
        tracks: of the song.
        minutes: its length.
        equaliser: the address of what stands in one of the strips: a plugin, if it is installed.
        mixdown: seconds from files to the mix.
        renders: seconds that its effects take by themselves, with as many renders.
        peak_mb: the most memory that the process had until the mix was done, in MB.
    """

    tracks: int
    minutes: float
    equaliser: str
    mixdown: float
    renders: float
    peak_mb: float

    @property
    def ratio(self) -> float:
        """How many times as long as the bare renders the mixdown takes."""
        return self.mixdown / self.renders


def measure(tracks: int, minutes: float, seed: int, progress: Progress = quiet) -> SongCost:
    """Mixes a song of noise bursts in a process of its own, and renders its effects by themselves.

    Args:
        tracks: of the song.
        minutes: its length.
        seed: of tracks and settings.
        progress: called with steps done, their number, and what is done now.

    Raises:
        EffectError: the process crashed, hung or failed.
    """
    installed = scanning.installed(("vst3",), EQUALISER)["vst3"]
    question = {"tracks": tracks, "minutes": minutes, "equaliser": EQUALISER if installed else INSTEAD}
    try:
        found = isolation.call(
            _WORKER, question | {"seed": seed}, _SILENCE_S * max(1.0, minutes), lambda now: progress(*now)
        )
    except (isolation.Failed, isolation.Refused) as error:
        reason = f"it {error}" if isinstance(error, isolation.Failed) else error.args[-1].rstrip(".")
        raise EffectError(f"The song was not mixed ({reason}); try fewer --tracks or --minutes.") from error
    return SongCost(**question, **found)

"""The net that an effect is."""

from __future__ import annotations

from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.identification.ballistics import identify_ballistics
from blackbox_fx.identification.delays import identify_delays
from blackbox_fx.identification.nature import find_nature
from blackbox_fx.identification.records import Identified
from blackbox_fx.proxy.clips import ClipStream

KINDS = ("modulated", "ballistics")  # of nets


def identify(stream: ClipStream, kind: str = "", progress: Progress = quiet) -> Identified | None:
    """The net that an effect is, with laws for its numbers; None if it is none of those that are known.

    Delays, choruses, flangers, phasers, tremolos, compressors, gates and limiters are known. What an effect may be is
    seen from its answers to noise at a few random settings; other effects take no longer than that.

    Args:
        stream: of the effect.
        kind: of net, if no other is wanted.
        progress: called where the effect may be of a known kind, with a few words.

    Raises:
        EffectError, WorkerDied, RenderTimeout: the effect failed, in a pool that does not skip failures.
    """
    nature = find_nature(stream)
    if nature is None:
        return None
    if nature.linear and (nature.moves or nature.rings) and kind in ("", "modulated"):
        progress(0, 1, "a delay or a moving filter")
        return identify_delays(stream, nature.moves)
    if nature.follows and kind in ("", "ballistics"):
        progress(0, 1, "a compressor, a gate or a limiter")
        return identify_ballistics(stream)
    return None

"""What became of every effect of a console in a session file."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import final

from blackbox_fx.core.tables import align
from blackbox_fx.sessions.series import Member

LIVE, PRINTED, LEFT_OUT = "live", "printed to audio", "left out"


@final
@dataclasses.dataclass(frozen=True)
class Fate:
    """What became of one effect.

    Args:
        place: where it stands, such as "track 1 'kick'".
        effect: its label and name.
        fate: "live", "printed to audio" or "left out".
        why: a sentence.
    """

    place: str
    effect: str
    fate: str
    why: str


@final
@dataclasses.dataclass(frozen=True)
class SessionReport:
    """What `save_session` wrote; printed, it is a table with a line for every effect, and sentences.

    Args:
        path: of the file.
        fates: what became of every effect, in the order of the signal.
        notes: what else is to be known, in sentences.
        complete: whether nothing that sounds was left out, so that the session sounds as `mixdown` does.
        claim: how it sounds if it is complete, as a sentence.
    """

    path: Path
    fates: tuple[Fate, ...]
    notes: tuple[str, ...]
    complete: bool
    claim: str

    def __str__(self) -> str:
        rows = [("place", "effect", "fate", "why"), *(dataclasses.astuple(fate) for fate in self.fates)]
        table = [align(rows)] if self.fates else ["There are no effects."]
        sounds = self.claim if self.complete else "It does not sound as mixdown does."
        lines = [*table, "", f"Saved as {self.path}.", sounds, *self.notes]
        return "\n".join(lines)


def fates_of(place: str, members: Sequence[Member], count: int) -> Iterator[Fate]:
    """What becomes of members in series whose first ones are printed.

    Args:
        place: where they stand.
        members: all of them.
        count: how many are printed.
    """
    last = members[count - 1].name if count else ""
    for k, member in enumerate(members):
        why = member.why
        if k < count and member.on:
            because = f"{_sentence(why)}." if why else f"It comes before {last}, which is printed."
            yield Fate(place, member.name, PRINTED, because)
        elif k < count:
            yield Fate(place, member.name, LEFT_OUT, f"It is switched off, and comes before {last}, which is printed.")
        elif why:
            yield Fate(place, member.name, LEFT_OUT, f"It is switched off, and {why}.")
        else:
            yield _live(place, member)


def fates_on_bus(place: str, members: Sequence[Member]) -> Iterator[Fate]:
    """What becomes of the members of the mix bus, which is not printed."""
    for member in members:
        why = member.why
        if why:
            off = "It is switched off, and " if not member.on else "The mix bus is not printed, and "
            yield Fate(place, member.name, LEFT_OUT, f"{off}{why}.")
        else:
            yield _live(place, member)


def _live(place: str, member: Member) -> Fate:
    return Fate(place, member.name, LIVE, "It is a plugin with its state." if member.on else "It is bypassed.")


def _sentence(why: str) -> str:
    return why[:1].upper() + why[1:]

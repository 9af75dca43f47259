"""Compares a trained mixing network with simple mixes on songs it never heard, by all distances to the real mix."""

from __future__ import annotations

import csv
import dataclasses
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.data.clips import Source
from blackbox_fx.errors import DataError
from blackbox_fx.models.encoders import LogMel
from blackbox_fx.report.gradients import write_csv
from blackbox_fx.tasks.mixing.measures import DISTANCES, MixDistances
from blackbox_fx.tasks.mixing.mixer import Mixer
from blackbox_fx.tasks.mixing.network import summary
from blackbox_fx.tasks.mixing.simple import equal_loudness, rule_based

SECONDS = 20.0  # of each song, from its middle
_ROUNDS = 2000  # of the bootstrap
_SILENT = 1e-3  # of full scale: a passage below says nothing
TRAINED, BEST_OF_3 = "trained network", "best of 3 draws"


@final
@dataclasses.dataclass(frozen=True)
class Passage:
    """The middle of a song that was held out, with its real mix.

    Args:
        name: of the song, with a number where others have the same.
        song: the whole.
        tracks: (track, channel, time).
        target: (2, time).
        roles: of the tracks.
    """

    name: str
    song: Source
    tracks: Tensor
    target: Tensor
    roles: tuple[str, ...]


def passages(songs: Sequence[Source], channels: int) -> list[Passage]:
    """The middle 20 s of each song.

    Args:
        songs: with real mixes.
        channels: of tracks, 1 or 2.

    Raises:
        DataError: no passage that sounds.
    """
    found, seen = [], Counter()
    for song in songs:
        seen[song.name] += 1
        name = song.name if seen[song.name] == 1 else f"{song.name} ({seen[song.name]})"
        length = min(round(SECONDS * song.sample_rate), song.length)
        cut = song.excerpt((song.length - length) // 2, length)
        if cut.mix is not None and np.abs(cut.mix).max() > _SILENT:
            tracks = torch.from_numpy(cut.stack(channels))
            found.append(Passage(name, song, tracks, torch.from_numpy(np.array(cut.mix)), cut.roles))
    if not found:
        raise DataError("The middle of no held-out song has a mix that sounds; use other songs.")
    return found


Way = Callable[[Passage], Tensor]


def simple_ways(sample_rate: float) -> dict[str, Way]:
    """Mixes that need neither a network nor training, by name."""
    return {
        "plain sum": lambda p: p.tracks.sum(0).expand(2, -1),
        "equal loudness": lambda p: equal_loudness(p.tracks, sample_rate),
        "rules of thumb": lambda p: rule_based(p.tracks, sample_rate, p.roles),
    }


def network_way(mixer: Mixer) -> Way:
    """The mix by a network that hears the whole song."""

    def way(p: Passage) -> Tensor:
        return _render(mixer, p, *mixer.settings(p.song))

    return way


def best_way(mixer: Mixer, seed: int) -> Way:
    """The nearest to the real mix, by the distance of spectra, of three mixes that the network draws."""

    def way(p: Passage) -> Tensor:
        distances = MixDistances(mixer.sample_rate)
        drawn = [_render(mixer, p, *settings) for _, settings in mixer.listen(p.song).draw(3, seed)]
        apart = [float(distances.of_spectra(wet[None], p.target[None])) for wet in drawn]
        return drawn[int(np.argmin(apart))]

    return way


def nearest_way(mixer: Mixer, songs: Sequence[Source], progress: Progress = quiet) -> Way:
    """Each track set like the training track that sounds most alike: what the network chose for that one.

    The mix bus is set like that of the training song whose tracks sound most alike in the mean.

    Args:
        mixer: the trained network.
        songs: that it was trained on.
        progress: called for each of them.
    """
    heard, rows, song_heard, buses = [], [], [], []
    for k, song in enumerate(songs):
        progress(k + 1, len(songs), song.name)
        length = min(round(SECONDS * song.sample_rate), song.length)
        tracks = torch.from_numpy(song.excerpt((song.length - length) // 2, length).stack(mixer.channels))
        mel = LogMel(mixer.sample_rate)(tracks)
        with torch.no_grad():
            own, bus = mixer.network(mel, torch.zeros(len(mel), dtype=torch.long), 1)
        heard.append(summary(mel))
        song_heard.append(heard[-1].mean(0))
        rows.append(own)
        buses.append(bus[0])
    known, chosen = torch.cat(heard), torch.cat(rows)

    def way(p: Passage) -> Tensor:
        here = summary(LogMel(mixer.sample_rate)(p.tracks))
        nearest = torch.cdist(here, known).argmin(1)
        like = torch.cdist(here.mean(0)[None], torch.stack(song_heard)).argmin()
        return _render(mixer, p, chosen[nearest], buses[int(like)][None])

    return way


def random_way(mixer: Mixer, seed: int) -> Way:
    """The console at random settings."""
    draw = torch.Generator().manual_seed(seed)

    def way(p: Passage) -> Tensor:
        rows = torch.rand(len(p.tracks), mixer.console.track_width, generator=draw)
        return _render(mixer, p, rows, torch.rand(1, mixer.console.bus_width, generator=draw))

    return way


def _render(mixer: Mixer, p: Passage, rows: Tensor, buses: Tensor) -> Tensor:
    return mixer.render(p.tracks, p.roles, (rows, buses))[0]


@final
@dataclasses.dataclass(frozen=True)
class Score:
    """How far one mix of one song is from the real one.

    Args:
        seed: of the training.
        way: of mixing.
        song: its name.
        distances: by the names of `DISTANCES`.
    """

    seed: int
    way: str
    song: str
    distances: Mapping[str, float]

    def row(self) -> dict[str, str]:
        """For a table."""
        numbers = {name: f"{value:.6g}" for name, value in self.distances.items()}
        return {"seed": str(self.seed), "mix": self.way, "song": self.song} | numbers

    @classmethod
    def of_row(cls, row: Mapping[str, str]) -> Score:
        """What `row` gave."""
        return cls(int(row["seed"]), row["mix"], row["song"], {name: float(row[name]) for name in DISTANCES})


@torch.no_grad()
def score(
    ways: Mapping[str, Way], unseen: Sequence[Passage], sample_rate: float, seed: int, progress: Progress = quiet
) -> list[Score]:
    """The distances of all ways of mixing on all passages.

    Args:
        ways: by name.
        unseen: see `passages`.
        sample_rate: in Hz.
        seed: that is noted.
        progress: called for each mix.
    """
    distances, found = MixDistances(sample_rate), []
    known = [distances.features(p.target[None]) for p in unseen]
    for name, way in ways.items():
        for p, there in zip(unseen, known, strict=True):
            progress(len(found) + 1, len(ways) * len(unseen), f"{name}: {p.name}")
            apart = distances(way(p)[None], p.target[None], there)
            found.append(Score(seed, name, p.name, {key: float(value) for key, value in apart.items()}))
    return found


@final
@dataclasses.dataclass(frozen=True)
class Comparison:
    """The mean of a distance over songs, and its ratio to that of the trained network.

    Args:
        mean: over songs, of each the mean over seeds.
        low, high: 95 % of the means of songs drawn again.
        apart: whether the trained network's mean is lower by more than chance: 95 % of the differences of the same
            songs, drawn again, are above 0.
    """

    mean: float
    low: float
    high: float
    apart: bool


def compare(scores: Sequence[Score]) -> dict[str, dict[str, Comparison]]:
    """The distances of each way of mixing, by its name and that of the distance; intervals by bootstrap over songs."""
    songs = sorted({s.song for s in scores})
    drawn = np.random.default_rng(0).integers(len(songs), size=(_ROUNDS, len(songs)))
    table = {way: _by_song(scores, way, songs) for way in dict.fromkeys(s.way for s in scores)}
    found: dict[str, dict[str, Comparison]] = {}
    for way, own in table.items():
        found[way] = {}
        for name in DISTANCES:
            low, high = np.quantile(own[name][drawn].mean(1), (0.025, 0.975))
            better = (own[name] - table[TRAINED][name])[drawn].mean(1)
            found[way][name] = Comparison(
                float(own[name].mean()), float(low), float(high), bool(np.quantile(better, 0.025) > 0)
            )
    return found


def _by_song(scores: Sequence[Score], way: str, songs: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    own = {song: [s.distances for s in scores if s.way == way and s.song == song] for song in songs}

    def mean(song: str, name: str) -> float:
        return sum(each[name] for each in own[song]) / len(own[song])

    return {name: np.array([mean(song, name) for song in songs]) for name in DISTANCES}


def comparison_table(scores: Sequence[Score]) -> list[tuple[str, ...]]:
    """Headings, then a row for each distance: its mean for each way of mixing, the trained network first.

    A star says that the trained network is nearer to the real mixes than that way, by more than chance.
    """
    found = compare(scores)
    found = {name: found[name] for name in (TRAINED, *found)}
    heading = ("distance", *found)
    rows = []
    for name, unit in DISTANCES.items():
        cells = []
        for each in found.values():
            c = each[name]
            cells.append(f"{c.mean:.3g} [{c.low:.3g}, {c.high:.3g}]{' *' if c.apart else ''}")
        rows.append((f"{name}{f', {unit}' if unit else ''}", *cells))
    return [heading, *rows]


def verdicts(scores: Sequence[Score]) -> list[tuple[str, ...]]:
    """Headings, then a row for each way of mixing: three distances, and where the network is nearer beyond chance."""
    shown = ("stft", "spectrum", "width")
    rows = []
    for way, own in compare(scores).items():
        beaten = [name for name in DISTANCES if own[name].apart]
        rows.append((way, *(f"{own[name].mean:.3g}" for name in shown), ", ".join(beaten) or "-"))
    return [("mix", *shown, "the trained network is nearer in"), *rows]


def write_scores(path: Path, scores: Sequence[Score]) -> None:
    """Writes a row for each mix of each song."""
    write_csv(path, [s.row() for s in scores])


def read_scores(path: Path) -> list[Score]:
    """What `write_scores` wrote; none where there is no file.

    Raises:
        DataError: a file of something else.
    """
    if not path.exists():
        return []
    try:
        with path.open(newline="") as file:
            return [Score.of_row(row) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"Cannot read {path} ({error!r}); remove it, or name another folder.") from error

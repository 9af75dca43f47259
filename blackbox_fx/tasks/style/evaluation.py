"""How near transfers come: hidden settings on another song, which the same recording at these settings is known for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import final

import numpy as np
import torch

from blackbox_fx.audio import Audio, to_channels
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.data import compose
from blackbox_fx.data.clips import SILENCE, Source
from blackbox_fx.effects import Effect, Rack
from blackbox_fx.errors import DataError
from blackbox_fx.runtime import Pool
from blackbox_fx.tasks.mixing.measures import DISTANCES, MixDistances
from blackbox_fx.tasks.style.levels import level, match_level
from blackbox_fx.tasks.style.pairs import Pairs, draw_pairs, draw_place
from blackbox_fx.tasks.style.rules import KNOWN, match_spectrum, nearest_settings
from blackbox_fx.tasks.style.styler import Styler
from blackbox_fx.tasks.style.transfer import transfer

NETWORK, LEVEL = "network", "level, dB"
NAMES = (*DISTANCES, LEVEL)
SHOWN = ("stft", "mel", "spectrum", "crest", "dynamics", LEVEL)
_KNOWN_SONGS = 24  # at which the settings stand among which the nearest is taken
_FIRST, _SONG_S, _HEARD_S = 80_000, 10.0, 8.0  # seed of the first song, length of songs, and of what is compared
_TRIES = 40
_FAINT = 0.1  # peak of wet audio over that of dry, below which settings are drawn again
_PEAK = 0.5


@final
@dataclasses.dataclass(frozen=True)
class Transferred:
    """How far one way of transfer is from the truth, for one pair.

    Args:
        pair: its number.
        way: of choosing settings, or of doing without.
        distances: by `NAMES`; all but the level at equal levels.
    """

    pair: int
    way: str
    distances: dict[str, float]


def evaluate(
    styler: Styler,
    pairs: int,
    refine: int,
    pool: Pool,
    progress: Progress = quiet,
    recordings: Sequence[Source] = (),
) -> Iterator[list[Transferred]]:
    """Transfers hidden settings from one song to another, by a network and by simple ways.

    Args:
        styler: the network and its chain.
        pairs: of composed songs that no network was trained on.
        refine: renders of `match` for each pair, from the network's settings; 0 for none.
        pool: where pairs render whose settings are tried.
        progress: called after each pair.
        recordings: at the sample rate of the network, two or more, of which places are taken instead of composed songs.

    Yields:
        what each way gives for a pair. "its own sound" has the recording itself as the reference, and is compared with
        the untouched recording.
    """
    about, chain = styler.about, Rack(styler.effects)
    rate = about.sample_rate
    songs = [compose(_FIRST + 2 * pairs + k, _SONG_S, rate) for k in range(_KNOWN_SONGS)]
    known = draw_pairs(songs, chain, KNOWN, about.seconds, about.channels, 5, pool, across=0.5)
    for k in range(pairs):
        dry, other = _places(recordings, k) if recordings else (_song(_FIRST + 2 * k + n, rate) for n in (0, 1))
        point = _hide(chain, (dry, other), rate, k)
        settings = chain.space.decode(point)
        truth, reference = (chain.render(x, settings, rate) for x in (dry, other))

        def at(params: np.ndarray, audio: Audio = dry) -> Audio:
            return chain.render(audio, chain.space.decode(params), rate)

        ways = {
            NETWORK: _transferred(styler, dry, reference),
            "untouched": dry,
            "defaults": at(chain.space.encode()),
            "rule: spectrum and level": match_spectrum(dry, reference, rate),
            "nearest of 1000 settings": at(_nearest(styler, known, dry, reference, rate)),
        }
        if refine:
            found = transfer(dry, reference, styler, sample_rate=rate, refine=refine, seed=k)
            ways["network, refined"] = found.render(dry)
        scores = [_score(k, way, wet, truth, rate) for way, wet in ways.items()]
        yield [*scores, _score(k, "its own sound", _transferred(styler, dry, dry), dry, rate)]
        progress(k + 1, pairs, "pairs")


def _transferred(styler: Styler, dry: Audio, reference: Audio) -> Audio:
    """What the network makes of a recording; both have the sample rate of its training."""
    rate = styler.about.sample_rate
    point = styler.choose(dry, reference, rate).double().numpy()
    effects, point, _ = match_level(styler.effects, point, dry, level(reference), rate)
    own = Rack(effects)
    return own.render(dry, own.space.decode(point), rate)


def _song(seed: int, rate: float) -> Audio:
    """A composed song mixed down, (2, time), at a peak of -6 dBFS."""
    return _levelled(compose(seed, _SONG_S, rate).stack(2).sum(0)[:, : round(_HEARD_S * rate)])


def sounding(recordings: Sequence[Source]) -> tuple[list[Source], list[tuple[str, str]]]:
    """The recordings of which a place can be taken, and the names of the others with the reason."""
    found, others = list[Source](), list[tuple[str, str]]()
    for each in recordings:
        if each.length < _HEARD_S * each.sample_rate:
            others.append((each.name, f"it is shorter than {_HEARD_S:g} s"))
            continue
        try:
            draw_place(each, _HEARD_S, 2, np.random.default_rng(0))
        except DataError as error:
            others.append((each.name, str(error)))
        else:
            found.append(each)
    return found, others


def _places(recordings: Sequence[Source], number: int) -> list[Audio]:
    """Places of two different recordings, (2, time) each, at a peak of -6 dBFS."""
    rng = np.random.default_rng([11, number])
    chosen = rng.choice(len(recordings), 2, replace=False)
    return [_levelled(draw_place(recordings[int(k)], _HEARD_S, 2, rng)) for k in chosen]


def _levelled(audio: Audio) -> Audio:
    return (audio * (_PEAK / max(float(np.abs(audio).max()), 1e-6))).astype(np.float32)


def _hide(chain: Effect, songs: Sequence[Audio], rate: float, number: int) -> np.ndarray:
    """Random settings at which both songs sound."""
    for draw in range(_TRIES):
        point = chain.space.sample(1, np.random.default_rng([7, number, draw]))[0]
        wet = [chain.render(x, chain.space.decode(point), rate) for x in songs]
        if all(np.abs(x).max() >= max(SILENCE, _FAINT * np.abs(y).max()) for x, y in zip(wet, songs, strict=True)):
            return point
    raise DataError(f"The chain is silent at {_TRIES} random settings; narrow its ranges.")


def _nearest(styler: Styler, known: Pairs, dry: Audio, reference: Audio, rate: float) -> np.ndarray:
    """The settings of that known pair whose spectrograms are most like those of both recordings."""
    heard, wanted = (styler.spectrograms(_heard(styler, x)) for x in (dry, reference))
    return nearest_settings(heard, wanted, known)[0].double().numpy()


def _heard(styler: Styler, audio: Audio) -> torch.Tensor:
    return torch.from_numpy(to_channels(audio, styler.about.channels).copy())[None]


def _score(pair: int, way: str, wet: Audio, truth: Audio, rate: float) -> Transferred:
    x, y = (torch.from_numpy(to_channels(each, 2).copy())[None] for each in (wet, truth))
    with torch.no_grad():
        found = {name: float(value[0]) for name, value in MixDistances(rate)(x, y).items()}
    return Transferred(pair, way, {**found, LEVEL: abs(level(wet) - level(truth))})


def evaluation_rows(scores: Sequence[Transferred], names: Sequence[str] = SHOWN) -> list[tuple[str, ...]]:
    """Headings, then for each way its mean distances; a star where the network is nearer in most pairs.

    Args:
        scores: of all pairs.
        names: of distances.
    """
    rows: list[tuple[str, ...]] = [("way", *(f"{n}, {DISTANCES[n]}" if DISTANCES.get(n) else n for n in names))]
    own = [s for s in scores if s.way == NETWORK]
    for way in dict.fromkeys(s.way for s in scores):
        mine = [s for s in scores if s.way == way]
        cells = []
        for name in names:
            nearer = sum(n.distances[name] < e.distances[name] for n, e in zip(own, mine, strict=True))
            mean = np.mean([s.distances[name] for s in mine])
            cells.append(f"{mean:.3g}{' *' if 2 * nearer > len(mine) else ''}")
        rows.append((way, *cells))
    return rows

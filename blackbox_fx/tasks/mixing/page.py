"""The page about a trained mixing network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from blackbox_fx.audio import Audio, write
from blackbox_fx.layers.console import join
from blackbox_fx.report import plot
from blackbox_fx.report.html import Section, write_page
from blackbox_fx.tasks.mixing.evaluation import SECONDS, Score, comparison_table
from blackbox_fx.tasks.mixing.study import MixStudy

_LEAD = (
    "A small network learned to set a mixing console of real effects. None of them is differentiable; their gradients "
    "are estimated."
)
_FIGURES = ("tracks.svg", "bus.svg")


@torch.no_grad()
def write_mix_page(folder: Path, study: MixStudy, distances: Sequence[Score], footer: str) -> Path:
    """Writes index.html with the loss curve, the settings chosen for an unseen song, and its mixes to listen to.

    Args:
        folder: of the run.
        study: that has been trained.
        distances: to real mixes, where they are known.
        footer: a line about the run.

    Returns:
        The path of the page.
    """
    network, teacher, song, scores = study.network.cpu(), study.teacher, study.song_to_hear(), study.scores
    console, rate = teacher.console, teacher.sample_rate
    tracks, index = join([song.tracks])
    chosen = network(song.mel, index, 1)
    hidden = teacher.decide(tracks, index, 1) or (None, None)
    raw = song.tracks.sum(0).expand(2, -1)
    wet = console(tracks, index, *chosen, role=song.roles or ("",) * len(tracks))[0]
    levelled = _match_levels({"raw sum": raw, "network's mix": wet, "target": song.target}, song.target)
    players = _write_players(folder, levelled, rate)
    both = ((song.track_names, console.track_columns), (["mix bus"], console.bus_columns))
    figures = [
        plot.settings(rows, columns, own.numpy(), None if true is None else true.numpy())
        for (rows, columns), own, true in zip(both, chosen, hidden, strict=True)
        if columns
    ]
    references = {name: score for name, score in scores.items() if name in ("best-scaled sum", "untrained network")}
    sections = [
        _score_section(scores, teacher.name),
        *([distance_section(distances)] if distances else []),
        Section(
            "Listen",
            f"{song.name}, a song that the network was not trained on. Levels are matched.",
            players=players,
            images=[plot.save(plot.sounds(levelled, rate), folder / "sounds.png")],
        ),
        Section(
            "Settings chosen for this song",
            "Filled: the network's choice. Open, where known: the teacher's. Each on the parameter's own range.",
            images=[plot.save(figure, folder / name) for figure, name in zip(figures, _FIGURES, strict=False)],
        ),
        Section(
            "Training",
            "Every step uses one random resolution, so single losses scatter.",
            images=[plot.save(plot.loss_curve(np.asarray(study.losses).tolist(), references), folder / "loss.svg")],
        ),
    ]
    page = folder / "index.html"
    write_page(page, "A network that mixes through real effects", _LEAD, sections, footer)
    return page


def _match_levels(mixes: Mapping[str, Tensor], target: Tensor) -> dict[str, Audio]:
    """Mixes as loud as the target, since louder always sounds better, and none above full scale."""
    gain = {name: float(target.square().mean().sqrt() / x.square().mean().sqrt()) for name, x in mixes.items()}
    peak = max(float(x.abs().max()) * gain[name] for name, x in mixes.items())
    return {name: (x * (gain[name] * 0.9 / peak)).numpy() for name, x in mixes.items()}


def _write_players(folder: Path, mixes: Mapping[str, Audio], sample_rate: float) -> list[tuple[str, str]]:
    """Writes mixes as FLAC; the label and the file name of each."""
    players = []
    for name, x in mixes.items():
        file = name.replace(" ", "-").replace("'", "") + ".flac"
        write(folder / file, x, sample_rate)
        players.append((f"{name}{'' if name == 'target' else ' (levelled)'}", file))
    return players


def relative(last: float, score: float) -> str:
    """A loss relative to another, in words; a mix that is the sum of its tracks has a loss of 0."""
    return f"{last / score:.2f}" if score > 0 else "-"


def distance_section(scores: Sequence[Score]) -> Section:
    """The distances to real mixes by all ways of mixing."""
    words = (
        f"The middle {SECONDS:g} s of each song, at equal levels; means over songs, and 95 % intervals by bootstrap. "
        "A star: the trained network is nearer to the real mixes of the same songs, by more than chance. "
        "Distances are differences of features, see MixFeatures; a mix and its mirror count as equal."
    )
    return Section("Distances to the real mixes of unseen songs", words, table=comparison_table(scores))


def _score_section(scores: Mapping[str, float], teacher: str) -> Section:
    """The losses on unseen songs, with the trained network's relative to each."""
    last = list(scores.values())[-1]
    table = [("mix", "loss", "trained network relative to it")]
    table += [(name, f"{score:.3f}", relative(last, score)) for name, score in scores.items()]
    return Section(
        "Loss on unseen songs",
        f"Multi-resolution STFT distance to the {teacher}, mean over excerpts. A best-scaled sum is the plain sum at "
        "the one gain that suits all excerpts best; beside real mixes, all levels are matched.",
        table=table,
        best=len(scores) - 1,
    )

"""What vectors of audio say about its treatment: linear probes and retrieval on songs that were never heard."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.data import compose
from blackbox_fx.errors import DataError
from blackbox_fx.models.encoders import mel_filters
from blackbox_fx.models.treatment import TreatmentEncoder, statistics
from blackbox_fx.tasks.style.encoder import Encoder
from blackbox_fx.tasks.style.treatments import Treated, draw_treated, fixed_styles, load_kinds

Describe = Callable[[Treated], Tensor]  # (groups, 2, 2, size)
_DRAWS = 1000  # of the bootstrap
_RIDGE = 1e-2
_AISFX_RANGE = 9.457798957824707  # to which it scales its spectrograms
_SCALARS = [type(np.dtype(kind)) for kind in ("int64", "float64", "float32", "int32")]
_FIRST, _SONG_S, _SECONDS = 50_000, 12.0, 2.0  # seed of the first song, its length, and that of a clip
HEADINGS = ("way", "kind", "setting", "style", "same treatment", "same song")
_STEPS = 60  # of the probe's optimiser


class Interval(NamedTuple):
    """A mean, and where it lies with a probability of 95 %.

    Args:
        value: the mean.
        low: of the interval.
        high: of the interval.
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


@final
@dataclasses.dataclass(frozen=True)
class Probed:
    """How well one way of describing audio does.

    Args:
        name: of the way.
        kind: share of clips whose kind of effect a linear probe tells.
        setting: correlation of settings with those that a linear probe reads, the mean over kinds and settings.
        style: share of clips whose fixed setting a linear probe tells.
        treatment: share of clips nearest to which, among all of other songs, is the one under the same treatment.
        song: share of clips nearest to which, among all under other treatments, is one of the same song.
    """

    name: str
    kind: Interval
    setting: Interval
    style: Interval
    treatment: Interval
    song: Interval


def ways(encoder: Encoder, sample_rate: float, further: Mapping[str, Describe]) -> dict[str, Describe]:
    """The ways that are compared: the encoder, the same untrained, mel statistics, and others.

    Args:
        encoder: that was trained.
        sample_rate: of the audio, in Hz.
        further: others, by name.
    """
    torch.manual_seed(0)
    blank = Encoder(sample_rate).eval()
    return {
        "trained encoder": lambda treated: _each(encoder.embed, treated),
        "the same, untrained": lambda treated: _each(blank.embed, treated),
        **further,
        "mel statistics": lambda treated: _each(statistics, treated),
    }


def of_style_network(encoder: TreatmentEncoder) -> Describe:
    """The encoder of a style network that hears mono, or stereo."""
    bands = encoder.bands

    def describe(treated: Treated) -> Tensor:
        return _each(lambda x: encoder(x[:, :bands]), treated)

    return describe


def of_aisfx(sample_rate: float) -> Describe:
    """The encoder of aisfx, which was trained on sounds for films and games.

    Args:
        sample_rate: of the audio, in Hz; it was trained at 44100.

    Raises:
        DataError: it is not installed.

    References:
        "Representation learning for the automatic indexing of sound effects libraries" (Ma et al., 2022).
    """
    try:
        from aisfx.inference import get_path_modelWeights  # pyright: ignore[reportMissingImports]
        from aisfx.models.cnn2d import EmbeddingNet  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise DataError("aisfx is not installed, so leave it out, or pip install --no-deps aisfx.") from error
    with torch.serialization.safe_globals([(_scalar(), "numpy.core.multiarray.scalar"), np.dtype, *_SCALARS]):
        weights, _ = torch.load(get_path_modelWeights(), map_location="cpu", weights_only=True)
    net = EmbeddingNet("max", 3, 1, 64).eval()
    own = {name.removeprefix("embedding_net."): x for name, x in weights.items() if name.startswith("embedding_net.")}
    net.load_state_dict(own)
    filters = mel_filters(96, 2048, sample_rate)
    filters = filters / filters.sum(1, keepdim=True)
    window = torch.hann_window(2048)

    @torch.no_grad()
    def describe(treated: Treated) -> Tensor:
        mono = treated.audio.flatten(0, 2).mean(1)
        found = []
        for part in mono.split(32):
            spectrum = torch.stft(part, 2048, 1024, window=window, return_complex=True).abs().square()
            frames = ((filters @ spectrum) * 1e4 + 1).log10().mT / _AISFX_RANGE
            found.append(net(torch.nn.functional.pad(frames, (0, 0, 0, max(0, 100 - frames.shape[1])))))
        return torch.cat(found).unflatten(0, treated.audio.shape[:3])

    return describe


def _scalar() -> Any:
    """What numpy names in pickles of its numbers."""
    return np.float64(0).__reduce__()[0]


@torch.no_grad()
def _each(describe: Callable[[Tensor], Tensor], treated: Treated) -> Tensor:
    flat = treated.spectrograms.flatten(0, 2)
    return torch.cat([describe(x) for x in flat.split(256)]).unflatten(0, treated.spectrograms.shape[:3])


class Examples(NamedTuple):
    """What probes are fitted to, and judged on: clips of other songs.

    Args:
        known: clips at any settings.
        unheard: the same of other songs.
        styles: clips at a few fixed settings, whose numbers stand for their kinds.
        unheard_styles: the same of other songs.
    """

    known: Treated
    unheard: Treated
    styles: Treated
    unheard_styles: Treated


def draw_examples(
    songs: int, groups: int, sample_rate: float, keep_audio: bool, progress: Progress = quiet
) -> Examples:
    """Draws clips of composed songs that no encoder was trained on.

    Args:
        songs: that are composed; half to fit to, half to judge on.
        groups: of four clips, in each part.
        sample_rate: in Hz.
        keep_audio: for encoders that hear more than spectrograms.
        progress: called all along.
    """
    composed = []
    for k in range(songs):
        composed.append(compose(_FIRST + k, _SONG_S, sample_rate))
        progress(k + 1, songs, "composing")
    parts = composed[: songs // 2], composed[songs // 2 :]
    effects = load_kinds()
    known, unheard = (
        draw_treated(part, effects, groups, _SECONDS, 100 + k, progress, keep_audio=keep_audio)
        for k, part in enumerate(parts)
    )
    styles = fixed_styles()
    first, second = (
        draw_treated(part, styles, groups // 2, _SECONDS, 200 + k, progress, keep_audio=keep_audio)
        for k, part in enumerate(parts)
    )
    return Examples(known, unheard, first, second)


def probe(name: str, describe: Describe, examples: Examples) -> Probed:
    """Probes one way of describing audio.

    Args:
        name: of the way.
        describe: treated clips as vectors.
        examples: what probes are fitted to and judged on.
    """
    here, there = _scaled(describe(examples.known), describe(examples.unheard))
    first, second = _scaled(describe(examples.styles), describe(examples.unheard_styles))
    return Probed(
        name,
        _mean(_classify(here, examples.known.kinds, there, examples.unheard.kinds)),
        _settings(here, examples.known, there, examples.unheard),
        _mean(_classify(first, examples.styles.kinds, second, examples.unheard_styles.kinds)),
        *map(_mean, _retrieve(there, examples.unheard)),
    )


def _scaled(known: Tensor, unheard: Tensor) -> tuple[Tensor, Tensor]:
    """Both with the mean and the deviation of the first at 0 and 1."""
    flat = known.flatten(0, 2)
    middle, spread = flat.mean(0), flat.std(0).clamp_min(1e-6)
    return (known - middle) / spread, (unheard - middle) / spread


def _classify(known: Tensor, classes: Tensor, unheard: Tensor, wanted: Tensor) -> NDArray[np.float64]:
    """For each group the share of clips whose class a linear probe tells, (groups,)."""
    labels = classes[:, :, None].expand(known.shape[:3]).flatten().long()
    count, flat = int(labels.max()) + 1, known.flatten(0, 2)
    weights = torch.zeros(flat.shape[1] + 1, count, requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        scores = flat @ weights[:-1] + weights[-1]
        found = torch.nn.functional.cross_entropy(scores, labels) + _RIDGE * weights[:-1].square().sum() / 2
        found.backward()
        return found

    optimizer.step(loss)  # pyright: ignore[reportArgumentType]
    guessed = (unheard @ weights.detach()[:-1] + weights.detach()[-1]).argmax(-1)
    return (guessed == wanted[:, :, None]).double().mean((1, 2)).numpy()


def _settings(here: Tensor, known: Treated, there: Tensor, unheard: Treated) -> Interval:
    """The mean correlation of settings with what ridge regression reads, over kinds and their settings."""
    pieces = []
    for kind in range(int(known.kinds.max()) + 1):
        rows, others = known.kinds == kind, unheard.kinds == kind
        x, y = here[rows].flatten(0, 1), known.params[rows].repeat_interleave(2, 0)
        u, v = there[others].flatten(0, 1), unheard.params[others].repeat_interleave(2, 0)
        columns = ~torch.isnan(y[0])
        y, v = y[:, columns].double(), v[:, columns].double()
        x, u = x.double(), u.double()
        gram = x.T @ x + len(x) * 0.1 * torch.eye(x.shape[1], dtype=torch.float64)
        read = u @ torch.linalg.solve(gram, x.T @ (y - y.mean(0)))
        pieces.append((read.numpy(), v.numpy()))
    rng = np.random.default_rng(0)
    draws = [_correlation(pieces, rng) for _ in range(_DRAWS // 5)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(_correlation(pieces, None), float(low), float(high))


def _correlation(pieces: list[tuple[Any, Any]], rng: np.random.Generator | None) -> float:
    found = []
    for read, true in pieces:
        rows = np.arange(len(read)) if rng is None else rng.integers(len(read), size=len(read))
        for k in range(read.shape[1]):
            x, y = read[rows, k], true[rows, k]
            spread = x.std() * y.std()
            found.append(float(((x - x.mean()) * (y - y.mean())).mean() / spread) if spread > 0 else 0.0)
    return float(np.mean(found))


def _retrieve(vectors: Tensor, treated: Treated) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each group how often the nearest clip of another song is under the same treatment, and how often the nearest
    one under another treatment is of the same song.
    """
    groups = len(vectors)
    flat = torch.nn.functional.normalize(vectors.flatten(0, 2), dim=1)
    treatment = torch.arange(2 * groups).repeat_interleave(2)
    song = treated.songs[:, None].expand(groups, 2, 2).flatten()
    alike = flat @ flat.T
    other = alike.masked_fill(song[:, None] == song, -2).argmax(1)
    same = alike.masked_fill(treatment[:, None] == treatment, -2).argmax(1)
    hits = treatment[other] == treatment, song[same] == song
    return tuple(x.double().view(groups, 4).mean(1).numpy() for x in hits)  # pyright: ignore[reportReturnType]


def _mean(each: NDArray[np.float64]) -> Interval:
    """The mean over groups, and its interval by the bootstrap."""
    rng = np.random.default_rng(0)
    means = [each[rng.integers(len(each), size=len(each))].mean() for _ in range(_DRAWS)]
    low, high = np.quantile(means, [0.025, 0.975])
    return Interval(float(each.mean()), float(low), float(high))

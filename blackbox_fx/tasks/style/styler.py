"""A trained style network with its chain: what it sets for a recording and a reference, and its files."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from blackbox_fx.audio import Audio, check_audio, check_sample_rate, resample, to_channels
from blackbox_fx.core.files import write_bytes, write_text
from blackbox_fx.core.reasons import reason
from blackbox_fx.dsp import Twin
from blackbox_fx.effects import Effect
from blackbox_fx.errors import AudioError, DataError, ParameterError
from blackbox_fx.layers.description import read_chain
from blackbox_fx.models.treatment import Spectrograms
from blackbox_fx.tasks.style.network import StyleNet
from blackbox_fx.tasks.style.shipped import find_network

ABOUT, WEIGHTS = "style.json", "weights.safetensors"
_WINDOWS = 12  # of a recording, that are heard
_QUIET = 1e-3  # of full scale, below which a window says nothing
_LARGEST = 64 << 20
_VERSION = 1


@final
@dataclasses.dataclass(frozen=True)
class About:
    """What a style network was made for.

    Args:
        chain: a table for each effect by label, see `load_console`.
        columns: of all effects, as they were in the training.
        sample_rate: in Hz, at which it hears.
        seconds: that it hears at once.
        channels: 1 or 2, that it hears.
        card: where it was trained, and how near it comes to what is wanted.
    """

    chain: Mapping[str, Any]
    columns: tuple[str, ...]
    sample_rate: float
    seconds: float
    channels: int
    card: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@final
class Styler:
    """A trained style network with its chain.

    Args:
        network: that chooses settings.
        effects: that it sets, by label, in the order of the signal.
        about: what it was made for.
    """

    def __init__(self, network: StyleNet, effects: Mapping[str, Effect], about: About) -> None:
        self.network, self.effects, self.about = network.eval(), effects, about
        self.spectrograms = Spectrograms(about.sample_rate, about.channels)

    @torch.no_grad()
    def choose(self, audio: Any, reference: Any, sample_rate: float, reference_rate: float | None = None) -> Tensor:
        """The settings by which a recording comes to sound like another.

        Both are heard in windows, evenly placed where they sound, at the sample rate of the training.

        Args:
            audio: (channel, time), mono or stereo, of any length.
            reference: the same, of any other recording.
            sample_rate: of the recording, in Hz.
            reference_rate: of the reference; the same if not given.

        Returns:
            a row for the chain, (width,) in [0, 1].

        Raises:
            AudioError: bad or silent audio.
        """
        rates = (
            check_sample_rate(sample_rate),
            check_sample_rate(sample_rate if reference_rate is None else reference_rate),
        )
        heard, wanted = (
            self._hear(check_audio(x, name), rate, name)
            for x, name, rate in zip((audio, reference), ("the recording", "the reference"), rates, strict=True)
        )
        return self.network.choose(heard, wanted)[0].clamp(0, 1)

    def hear(self, audio: Audio, sample_rate: float) -> Tensor:
        """What the encoder makes of a recording, (its width,).

        Args:
            audio: (channel, time), mono or stereo, of any length.
            sample_rate: of it, in Hz.
        """
        with torch.no_grad():
            return self._hear(check_audio(audio), check_sample_rate(sample_rate), "audio")[0]

    def _hear(self, audio: Audio, rate: float, name: str) -> Tensor:
        if len(audio) > 2:
            raise AudioError(f"{name.capitalize()} has {len(audio)} channels; allowed are 1 and 2.")
        length = round(self.about.seconds * rate)
        last = max(audio.shape[1] - length, 0)
        starts = sorted({round(last * k / (_WINDOWS - 1)) for k in range(_WINDOWS)})
        pieces = [audio[:, start : start + length] for start in starts]
        loud = [piece for piece in pieces if piece.size and abs(piece).max() >= _QUIET]
        if not loud:
            raise AudioError(f"{name.capitalize()} is silent, so there is nothing to go by; give another one.")
        found = [self.spectrograms(self._at_own_rate(piece, rate)) for piece in loud]
        return torch.stack([self.network.encoder(x) for x in found]).mean(0)

    def _at_own_rate(self, piece: Audio, rate: float) -> Tensor:
        same = rate == self.about.sample_rate
        own = piece if same else resample(piece, rate, self.about.sample_rate)
        return torch.from_numpy(to_channels(own, self.about.channels).copy())[None]


def read_effects(said: Mapping[str, Any]) -> dict[str, Effect]:
    """The effects that a style network sets, by label.

    Args:
        said: a table for each effect, see `read_chain`.

    Raises:
        ParameterError: something that makes no sense; a twin, or an effect that can be switched off; nothing to set.
        EffectError, MissingHost: an effect that cannot be loaded.
    """
    effects = read_chain(said)
    for label, effect in effects.items():
        if not isinstance(effect, Effect):
            what = "is a twin" if isinstance(effect, Twin) else "can be switched off"
            raise ParameterError(
                f"chain.{label} {what}, which a style network does not set; name a plugin there, without bypass."
            )
    if not any(effect.space.width for effect in effects.values()):
        raise ParameterError("No effect of the chain has a free parameter, so there is nothing to set; free some.")
    return effects


def write_styler(folder: Path, network: StyleNet, about: About) -> None:
    """Writes style.json and weights.safetensors, which `load_styler` reads.

    Args:
        folder: to write to.
        network: to keep.
        about: what it was made for.
    """
    write_bytes(folder / WEIGHTS, save({name: x.contiguous().cpu() for name, x in network.state_dict().items()}))
    write_text(folder / ABOUT, json.dumps({"version": _VERSION, **dataclasses.asdict(about)}, indent=1))


def load_styler(name: str | Path) -> Styler:
    """A trained style network with its chain; nothing is unpickled.

    Args:
        name: of one that is shipped, such as "zam-eq2-zam-comp-x2", or the folder of a run of blackbox-fx train style.

    Raises:
        DataError: no such network, or damaged files; an effect that has other parameters than in the training.
        EffectError, MissingHost: an effect that cannot be loaded.
    """
    folder = find_network(name, ABOUT, "style network", "train style")
    about = _read_about(folder / ABOUT)
    effects = read_effects(about.chain)
    columns = tuple(f"{label}.{c}" for label, effect in effects.items() for c in effect.space.columns)
    if columns != about.columns:
        other = sorted(set(columns) ^ set(about.columns))
        raise DataError(
            f"{folder} was trained with other parameters of its effects ({other[0] if other else 'in another order'}); "
            "train again with the installed ones."
        )
    network = StyleNet({label: effect.space.width for label, effect in effects.items()}, about.channels)
    try:
        if (folder / WEIGHTS).stat().st_size > _LARGEST:
            raise ValueError("it is too large")
        network.load_state_dict(load((folder / WEIGHTS).read_bytes()))
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise DataError(f"Cannot read {folder / WEIGHTS} ({reason(error)}); get it again, or train again.") from error
    return Styler(network, effects, about)


def _read_about(path: Path) -> About:
    try:
        said = json.loads(path.read_bytes())
        if said.pop("version") != _VERSION:
            raise ValueError("another version")
        about = About(**{**said, "columns": tuple(said["columns"])})
        good = about.channels in (1, 2) and 0.05 <= about.seconds <= 60 and math.isfinite(about.sample_rate)
        if not good or not isinstance(about.chain, dict):
            raise ValueError(f"{about.channels} channels, {about.seconds} s")
        check_sample_rate(about.sample_rate)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, AudioError) as error:
        raise DataError(
            f"Cannot read {path} ({reason(error)}); name the folder of a run of blackbox-fx train style."
        ) from error
    return about

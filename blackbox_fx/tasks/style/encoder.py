"""An encoder of treatments: trained so that the same treatment of different songs is near, and another is far."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from blackbox_fx.audio import AudioError, check_sample_rate
from blackbox_fx.core.files import write_bytes, write_text
from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.core.reasons import reason
from blackbox_fx.errors import DataError
from blackbox_fx.models.treatment import PictureEncoder, Spectrograms
from blackbox_fx.tasks.style.shipped import find_network
from blackbox_fx.tasks.style.treatments import Treated
from blackbox_fx.training.schedule import learning_rate

ABOUT, WEIGHTS = "encoder.json", "weights.safetensors"
SIZE = 128  # of the vectors
_LARGEST = 64 << 20
_VERSION = 2
_BATCH, _RATE, _WARM_UP = 32, 1e-3, 50
_TEMPERATURE = 0.1
_CONTRAST, _SETTINGS = 0.3, 5.0  # weights of losses beside that of kinds
_DECAY = 0.03
_SHIFT = 0.6  # of spectrograms: 12 dB


@final
class Encoder(nn.Module):
    """Audio to a vector that says how it was treated, and little of what is played.

    Vectors have the length 1: their inner product says how alike two treatments are.

    Args:
        sample_rate: of the audio, in Hz.

    Shape:
        - audio: (batch, 1 or 2, time), of two seconds or so
        - output: (batch, 128)

    Raises:
        AudioError: audio of another shape.

    References:
        "Music mixing style transfer: a contrastive learning approach to disentangle audio effects" (Koo et al., 2023).
    """

    def __init__(self, sample_rate: float = 44100) -> None:
        super().__init__()
        self.sample_rate, self.size = check_sample_rate(sample_rate), SIZE
        self.spectrograms = Spectrograms(sample_rate, 2)
        self.encoder = PictureEncoder(2)
        self.head = nn.Sequential(nn.Linear(self.encoder.width, 2 * SIZE), nn.GELU(), nn.Linear(2 * SIZE, SIZE))

    def forward(self, audio: Tensor) -> Tensor:
        """The vectors."""
        if audio.ndim != 3 or audio.shape[1] not in (1, 2) or not audio.shape[2]:
            raise AudioError(f"audio must be (batch, 1 or 2, time), got {tuple(audio.shape)}.")
        return self.embed(self.spectrograms(audio))

    def embed(self, spectrograms: Tensor) -> Tensor:
        """The vectors of `Spectrograms`, (batch, 128, frames)."""
        return nn.functional.normalize(self.head(self.encoder(spectrograms)), dim=1)


def train_encoder(
    treated: Treated, sample_rate: float, steps: int, seed: int = 0, progress: Progress = quiet
) -> Encoder:
    """Trains an encoder to tell kinds of treatments and their settings, and the same treatment of another song.

    Among all that the same treatment is told from is the same song under another treatment, so what is played does not
    help.

    Args:
        treated: groups to learn from.
        sample_rate: of their audio, in Hz.
        steps: of Adam, each on 32 groups.
        seed: of weights and batches.
        progress: called after each step.
    """
    torch.manual_seed(seed)
    encoder, questions = Encoder(sample_rate), _Questions(treated)
    draw = torch.Generator().manual_seed(seed)
    parameters = [*encoder.parameters(), *questions.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=_RATE, weight_decay=_DECAY)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(_RATE, step, step / steps, _WARM_UP)
        index = torch.randperm(len(treated.kinds), generator=draw)[:_BATCH]
        vectors = encoder.embed(_masked(treated.spectrograms[index].flatten(0, 2), draw)).unflatten(0, (-1, 2, 2))
        loss = questions(vectors, treated.kinds[index], treated.params[index]) + _CONTRAST * _contrast(vectors)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        progress(step + 1, steps, f"loss {float(loss.detach()):.3f}")
    return encoder.eval()


def _masked(spectrograms: Tensor, draw: torch.Generator) -> Tensor:
    """Spectrograms shifted by a random level each, and begun at a random frame, so that neither is learnt by heart."""
    shifts = (torch.rand(len(spectrograms), 1, 1, generator=draw) - 0.5) * _SHIFT
    start = int(torch.randint(1 + spectrograms.shape[-1] // 4, (1,), generator=draw))
    return spectrograms[..., start:] + shifts


@final
class _Questions(nn.Module):
    """Asks vectors for the kind of treatment, and for the settings of that kind, by one linear layer each."""

    def __init__(self, treated: Treated) -> None:
        super().__init__()
        self.count, self.width = int(treated.kinds.max()) + 1, treated.params.shape[-1]
        self.kind, self.setting = nn.Linear(SIZE, self.count), nn.Linear(SIZE, self.count * self.width)

    def forward(self, vectors: Tensor, kinds: Tensor, params: Tensor) -> Tensor:
        """The loss of answers, of vectors (groups, 2, 2, size)."""
        scaled = vectors * SIZE**0.5
        wanted = kinds[:, :, None].expand(-1, -1, 2)
        asked = nn.functional.cross_entropy(self.kind(scaled).flatten(0, 2), wanted.flatten())
        read = self.setting(scaled).unflatten(-1, (self.count, self.width))
        read = read.gather(3, wanted[..., None, None].expand(-1, -1, -1, 1, self.width))[:, :, :, 0]
        true = params[:, :, None].expand_as(read).float()
        known = ~true.isnan()
        return asked + _SETTINGS * (read - true)[known].square().mean()


def _contrast(vectors: Tensor) -> Tensor:
    """Cross entropy of finding the other song under the same treatment, of vectors (groups, 2, 2, size)."""
    flat = vectors.flatten(0, 2)
    alike = flat @ flat.T / _TEMPERATURE
    alike = alike.masked_fill(torch.eye(len(flat), dtype=torch.bool), float("-inf"))
    partner = torch.arange(len(flat)) ^ 1  # songs alternate
    return nn.functional.cross_entropy(alike, partner)


def write_encoder(folder: Path, encoder: Encoder, card: Mapping[str, Any]) -> None:
    """Writes encoder.json and weights.safetensors, which `load_encoder` reads.

    Args:
        folder: to write to.
        encoder: to keep.
        card: on how many songs and groups it was trained, on what kinds of treatments, and for how many steps.
    """
    write_bytes(folder / WEIGHTS, save({name: x.contiguous() for name, x in encoder.state_dict().items()}))
    said = {"version": _VERSION, "sample_rate": encoder.sample_rate, "card": dict(card)}
    write_text(folder / ABOUT, json.dumps(said, indent=1))


def load_encoder(name: str | Path = "treatment") -> Encoder:
    """A trained encoder, on the CPU; nothing is unpickled.

    Args:
        name: of one that is shipped, such as "treatment", or a folder that blackbox-fx train encoder wrote.

    Raises:
        DataError: no such encoder, or damaged files.

    >>> import torch, blackbox_fx as bfx
    >>> bfx.load_encoder()(torch.randn(3, 2, 88200)).shape
    torch.Size([3, 128])
    """
    folder = find_network(name, ABOUT, "encoder", "train encoder")
    try:
        said = json.loads((folder / ABOUT).read_bytes())
        if said["version"] != _VERSION or (folder / WEIGHTS).stat().st_size > _LARGEST:
            raise ValueError("another version, or too large")
        encoder = Encoder(check_sample_rate(said["sample_rate"]))
        encoder.load_state_dict(load((folder / WEIGHTS).read_bytes()))
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, AudioError, SafetensorError) as error:
        raise DataError(
            f"Cannot read the encoder in {folder} ({reason(error)}); get it again, or train again."
        ) from error
    return encoder.eval()

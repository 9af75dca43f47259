"""Audio as numpy arrays (channel, time), float32: checks, files, resampling."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.errors import AudioError

Audio = NDArray[np.float32]

SAMPLE_RATES = (1_000, 768_000)


def check_sample_rate(sample_rate: Any) -> float:
    """The sample rate in Hz as a float. Raises AudioError unless it is a number in [1000, 768000]."""
    low, high = SAMPLE_RATES
    if isinstance(sample_rate, bool) or not isinstance(sample_rate, (int, float, np.integer, np.floating)):
        raise AudioError(f"sample_rate must be a number in [{low}, {high}] Hz, got {sample_rate!r}.")
    if not low <= sample_rate <= high:
        raise AudioError(f"sample_rate={sample_rate!r} is not allowed; allowed is [{low}, {high}] Hz.")
    return float(sample_rate)


def is_finite(x: NDArray[Any]) -> bool:
    """Whether no element is NaN or infinite. The sum tells in most cases, at a fifth of the time of looking at each."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(x.sum())) or bool(np.isfinite(x).all())


def check_audio(audio: Any, what: str = "audio") -> Audio:
    """Audio as a float32 array (channel, time). Raises AudioError on another shape, type, no sample, NaN or infinity."""
    x = np.asarray(audio)
    if x.ndim != 2 or x.shape[0] < 1 or x.shape[1] < 1:
        raise AudioError(f"{what} must have shape (channel, time) with at least one of each, got {x.shape}.")
    if x.shape[0] > x.shape[1] and x.shape[1] <= 2:
        raise AudioError(f"{what} has shape {x.shape}, which looks like (time, channel); pass its transpose.")
    if not np.issubdtype(x.dtype, np.floating):
        raise AudioError(f"{what} must be floating point in about [-1, 1], got {x.dtype}; divide integers by full scale.")
    if not is_finite(x):
        raise AudioError(f"{what} contains NaN or infinity; check what produced it.")
    return x.astype(np.float32, copy=False)


def read(path: str | os.PathLike[str], sample_rate: float | None = None) -> tuple[Audio, float]:
    """Reads WAV, FLAC, OGG, MP3 and what else libsndfile knows.

    Args:
        path: the file.
        sample_rate: resampled to this rate in Hz; the file's own if not given.

    Returns:
        audio (channel, time), float32, and its sample rate in Hz.

    Raises:
        AudioError: the file is missing, empty, not audio, or holds NaN or infinity.
    """
    import soundfile

    path = Path(path)
    if not path.is_file():
        raise AudioError(f"No such audio file: {path}.")
    try:
        data, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as error:
        raise AudioError(f"Cannot read {path} as audio ({str(error).splitlines()[0]}); use WAV, FLAC, OGG or MP3.") from error
    if not data.shape[0]:
        raise AudioError(f"{path} holds no samples; remove it or write it again.")
    audio = np.ascontiguousarray(data.T)
    if not is_finite(audio):
        raise AudioError(f"{path} contains NaN or infinity; write it again.")
    target = float(rate) if sample_rate is None else check_sample_rate(sample_rate)
    return resample(audio, rate, target), target


def resample(audio: Audio, from_rate: float, to_rate: float) -> Audio:
    """Band-limited resampling of (channel, time) audio between two rates in Hz; the same array if they are equal."""
    if from_rate == to_rate:
        return audio
    import soxr

    return np.ascontiguousarray(soxr.resample(audio.T, from_rate, to_rate).T, dtype=np.float32)


def write(path: str | os.PathLike[str], audio: Any, sample_rate: float) -> None:
    """Writes audio (channel, time) as the format of the file's ending: 32-bit float for WAV, 24-bit for FLAC.

    The file appears whole or not at all. Raises AudioError on bad audio, an unknown ending or a missing folder.
    """
    import soundfile

    path = Path(path)
    x = check_audio(audio)
    rate = round(check_sample_rate(sample_rate))
    kind = path.suffix.lstrip(".").upper()
    if kind not in soundfile.available_formats():
        raise AudioError(f"Cannot write {path}: unknown ending {path.suffix!r}; use .wav, .flac, .ogg or .mp3.")
    if not path.parent.is_dir():
        raise AudioError(f"Cannot write {path}: the folder {path.parent} does not exist; create it first.")
    subtype = {"WAV": "FLOAT", "FLAC": "PCM_24"}.get(kind)
    handle, temporary = tempfile.mkstemp(suffix=path.suffix, prefix=".", dir=path.parent)
    os.close(handle)
    try:
        soundfile.write(temporary, x.T, rate, subtype=subtype, format=kind)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, path)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise AudioError(f"Cannot write {path}: {str(error).splitlines()[0]}") from error
    finally:
        Path(temporary).unlink(missing_ok=True)

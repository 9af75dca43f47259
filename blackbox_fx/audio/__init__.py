"""Audio as numpy arrays (channel, time), float32: checks, files, resampling."""

from __future__ import annotations

import contextlib
import functools
import numbers
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.audio.complete import missing, vorbis
from blackbox_fx.core import files
from blackbox_fx.core.checks import is_number
from blackbox_fx.core.reasons import reason
from blackbox_fx.errors import AudioError

Audio = NDArray[np.float32]

SAMPLE_RATES = (1_000, 768_000)
_LOUDEST = 1e4  # of a sample in a file, where full scale is 1: 80 dB above
_SKIPPED = 2**16  # samples that are read at a time to get to the start of a part


def check_sample_rate(sample_rate: Any) -> float:
    """The sample rate in Hz as a float. Raises AudioError unless it is a number in [1000, 768000]."""
    low, high = SAMPLE_RATES
    if not is_number(sample_rate):
        raise AudioError(f"sample_rate must be a number in [{low}, {high}] Hz, got {sample_rate!r}.")
    if not low <= sample_rate <= high:
        raise AudioError(f"sample_rate={sample_rate!r} is not allowed; allowed is [{low}, {high}] Hz.")
    return float(sample_rate)


def is_finite(x: NDArray[Any]) -> bool:
    """Whether no element is NaN or infinite. The sum decides in most cases, in a fifth of the time of testing each."""
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(x.sum())) or bool(np.isfinite(x).all())


def check_audio(audio: Any, what: str = "audio") -> Audio:
    """Audio as a float32 array (channel, time). Raises AudioError on another shape or type, no sample, or NaN."""
    try:
        x = np.asarray(audio)
    except (ValueError, TypeError, RuntimeError) as error:
        raise AudioError(f"{what} is no array (channel, time) ({reason(error)}).") from error
    if x.dtype.kind in "OSU":
        raise AudioError(f"{what} must be an array (channel, time), got {type(audio).__name__}; read files first.")
    if x.ndim != 2 or x.shape[0] < 1 or x.shape[1] < 1:
        raise AudioError(f"{what} must be (channel, time) with at least one channel and sample, got shape {x.shape}.")
    if x.shape[0] > 64 and x.shape[1] <= 8:
        raise AudioError(f"{what} has shape {x.shape}, which looks like (time, channel); pass its transpose.")
    if not np.issubdtype(x.dtype, np.floating):
        raise AudioError(f"{what} must be floating point in about [-1, 1], got {x.dtype}; divide by full scale.")
    with np.errstate(over="ignore"):
        y = x.astype(np.float32, copy=False)
    if not is_finite(y):
        raise AudioError(f"{what} contains NaN or infinity; check what produced it.")
    return y


class FileInfo(NamedTuple):
    """What the header of an audio file says: frames are samples of each channel, sample_rate is in Hz."""

    frames: int
    channels: int
    sample_rate: int


def to_channels(audio: Audio, channels: int) -> Audio:
    """Audio (channel, time) with another number of channels: the average of all, in each of them."""
    if audio.shape[0] == channels:
        return audio
    return np.repeat(audio.mean(axis=0, keepdims=True, dtype=np.float32), channels, axis=0)


def info(path: str | os.PathLike[str]) -> FileInfo:
    """The header of a file; an MP3 may turn out shorter. Raises AudioError like `read`, except for NaN."""
    path = _checked_path(path)
    with _opened(path) as file:
        return _header(path, file)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    import soundfile

    try:
        if path.is_dir():
            raise AudioError(f"{path} is a folder; give an audio file in it.")
        if not path.is_file():
            raise AudioError(f"No such audio file: {path}.")
        with path.open("rb") as content:
            lacking = missing(content)
            if lacking:
                raise AudioError(f"{path} is cut off: {lacking} bytes or more are missing at its end; write it again.")
            content.seek(0)
            # libsndfile takes names in UTF-8 only, and other files by their content
            with soundfile.SoundFile(path if _is_utf8(path) else content) as file:
                yield file
    # A damaged header may claim more samples than there is memory.
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError, OSError, MemoryError) as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError(f"Cannot read {path} as audio ({reason(error)}); use WAV, FLAC, OGG or MP3.") from error


def _is_utf8(path: Path) -> bool:
    """Whether a name has no bytes that are not text in UTF-8."""
    return not any("\ud800" <= letter <= "\udfff" for letter in str(path))


def _header(path: Path, file: Any) -> FileInfo:
    low, high = SAMPLE_RATES
    if file.format == "OGG":
        _check_pages(path, file)
    if not low <= file.samplerate <= high:
        raise AudioError(f"{path} has a sample rate of {file.samplerate} Hz; allowed is [{low}, {high}] Hz.")
    if not file.frames:
        raise AudioError(f"{path} holds no samples; remove it or write it again.")
    return FileInfo(file.frames, file.channels, file.samplerate)


@functools.lru_cache(maxsize=1024)
def _vorbis(path: Path, *_: int) -> tuple[int, int]:
    with path.open("rb") as content:
        return vorbis(content)


def _check_pages(path: Path, file: Any) -> None:
    state = path.stat()
    samples, streams = _vorbis(path, state.st_size, state.st_mtime_ns)
    if streams > 1:
        raise AudioError(
            f"{path} holds {streams} streams, of which only the first would be read; write it again as one."
        )
    if samples > file.frames:
        raise AudioError(f"{path} is damaged: {file.frames} of its {samples} samples can be read; write it again.")


def _checked_path(path: Any) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise AudioError(f"path must be the path of an audio file, got {path!r:.80}.")
    return Path(path)


def read(
    path: str | os.PathLike[str], sample_rate: float | None = None, start: int = 0, frames: int | None = None
) -> tuple[Audio, float]:
    """Reads WAV, FLAC, OGG, MP3 and what else libsndfile knows.

    Args:
        path: the file.
        sample_rate: resampled to this rate in Hz; the file's own if not given.
        start: the first sample to read, at the file's own rate, [0, frames of the file).
        frames: how many samples to read, at the file's own rate; what lies beyond the end is left out.

    Returns:
        audio (channel, time), float32, and its sample rate in Hz.

    Raises:
        AudioError: the file is missing, empty, cut off or not audio, holds NaN or infinity, or ends before `start`.
    """
    path = _checked_path(path)
    with _opened(path) as file:
        total, _, rate = _header(path, file)
        wanted = _wanted(path, total, start, frames)
        _go_to(file, start)
        data = file.read(wanted, dtype="float32", always_2d=True)
        # Only the header of an MP3 is an estimate.
        if len(data) < wanted and (file.format != "MP3" or not len(data)):
            raise AudioError(f"{path} ends after {start + len(data)} of its {total} samples; write it again.")
    audio = np.ascontiguousarray(data.T)
    target = float(rate) if sample_rate is None else check_sample_rate(sample_rate)
    finite = is_finite(audio)
    audio = resample(audio, rate, target) if finite else audio
    peak = float(max(audio.max(initial=0.0), -audio.min(initial=0.0))) if finite else np.inf
    if not peak <= _LOUDEST:
        raise AudioError(
            f"{path} contains NaN, infinity or values far beyond full scale (its peak is {peak:.3g}, full scale is 1); "
            "write it again."
        )
    if not audio.shape[1]:
        raise AudioError(f"{path} is too short for {target:g} Hz; remove it or write it again.")
    return audio, target


def _wanted(path: Path, total: int, start: int, frames: int | None) -> int:
    """How many samples of a file are to be read."""
    if not isinstance(start, numbers.Integral) or not 0 <= start < total:
        raise AudioError(f"start={start!r} is not allowed in {path}; allowed is [0, {total - 1}].")
    if frames is None:
        return total - start
    if not isinstance(frames, numbers.Integral) or frames < 1:
        raise AudioError(f"frames={frames!r} is not allowed for {path}; allowed are whole numbers from 1 on, or None.")
    return min(frames, total - start)


def _go_to(file: Any, start: int) -> None:
    """Moves to a sample; some formats, such as GSM, can only be read from their beginning."""
    if file.seekable():
        file.seek(start)
        return
    while start > 0 and len(skipped := file.read(min(start, _SKIPPED))):
        start -= len(skipped)


def resample(audio: Audio, from_rate: float, to_rate: float) -> Audio:
    """Band-limited resampling of (channel, time) audio between two rates in Hz; the same array if they are equal."""
    if from_rate == to_rate:
        return audio
    import soxr

    return np.ascontiguousarray(soxr.resample(audio.T, from_rate, to_rate).T, dtype=np.float32)


def write(path: str | os.PathLike[str], audio: Any, sample_rate: float) -> None:
    """Writes audio (channel, time) as the format of the file's ending: 32-bit float for WAV, 24-bit for FLAC.

    The file appears whole or not at all. FLAC and MP3 clip what exceeds [-1, 1]. Raises AudioError on bad audio, an
    ending other than .wav, .flac, .ogg and .mp3, a missing folder, or a rate that the format does not have.
    """
    import soundfile

    path = Path(path)
    x = check_audio(audio)
    rate = round(check_sample_rate(sample_rate))
    kind = path.suffix.lstrip(".").upper()
    if kind not in ("WAV", "FLAC", "OGG", "MP3"):
        raise AudioError(f"Cannot write {path}: unknown ending {path.suffix!r}; use .wav, .flac, .ogg or .mp3.")
    if not path.parent.is_dir():
        raise AudioError(f"Cannot write {path}: the folder {path.parent} does not exist; create it first.")
    subtype = {"WAV": "FLOAT", "FLAC": "PCM_24"}.get(kind)
    try:
        with files.replacing(path) as temporary, temporary.open("w+b") as content:
            soundfile.write(temporary if _is_utf8(path) else content, x.T, rate, subtype=subtype, format=kind)
    except (soundfile.SoundFileError, RuntimeError) as error:
        raise AudioError(f"Cannot write {path} ({reason(error)}); choose another ending or rate.") from error
    except OSError as error:
        raise AudioError(f"Cannot write {path} ({error.strerror}); choose another place.") from error

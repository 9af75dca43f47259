"""Plays notes on the sampled instruments of a soundfont: tuned, panned, louder and softer, with decay and release."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from blackbox_fx.audio import Audio
from blackbox_fx.data.soundfont import SoundFont, Voice

_FLOOR_DB = 70.0
_LONGEST_RELEASE_S = 1.0
_CUT_S = 0.02
_HIGHEST_CUTOFF_HZ = 10_000.0
_BLOCK = 2048


class Note(NamedTuple):
    """One note.

    Args:
        start, duration: in seconds.
        pitch: MIDI key, [0, 127]; 60 is middle C.
        velocity: how hard it is struck, [1, 127].
    """

    start: float
    duration: float
    pitch: int
    velocity: int


class _Key(NamedTuple):
    """One key held for as long as its longest note, (2, time), and how it fades once let go."""

    audio: Audio
    release_s: float
    exclusive: int


def _lowpass(x: NDArray[np.float32], voice: Voice, sample_rate: float) -> NDArray[np.float32]:
    """Second-order low-pass whose cutoff falls over time: a blend of the filter's first and last state."""
    if min(voice.cutoff_hz, voice.cutoff_end_hz) > min(_HIGHEST_CUTOFF_HZ, 0.45 * sample_rate):
        return x
    # Short blocks, all at once: five times faster than one long transform, and the filter has rung out within a block.
    count = -(-len(x) // _BLOCK)
    padded = np.zeros(count * _BLOCK, np.float32)
    padded[: len(x)] = x
    spectrum = np.fft.rfft(padded.reshape(count, _BLOCK), 2 * _BLOCK).astype(np.complex64)
    f = np.fft.rfftfreq(2 * _BLOCK, 1 / sample_rate)

    def filtered(cutoff: float) -> NDArray[np.float32]:
        ratio = f / cutoff
        response = 1 / (1 - ratio**2 + 1j * ratio / voice.resonance)
        blocks = np.fft.irfft(spectrum * response.astype(np.complex64)).astype(np.float32, copy=False)
        y = blocks[:, :_BLOCK]
        y[1:] += blocks[:-1, _BLOCK:]
        return y.reshape(-1)[: len(x)]

    y = filtered(voice.cutoff_end_hz)
    if voice.cutoff_end_hz != voice.cutoff_hz:
        n = min(len(x), int(voice.cutoff_decay_s * sample_rate))
        weight = np.linspace(1, 1 - n / max(voice.cutoff_decay_s * sample_rate, 1), n, dtype=np.float32)
        y[:n] += weight * (filtered(voice.cutoff_hz)[:n] - y[:n])
    return y


def _sound(voice: Voice, length: int, sample_rate: float) -> NDArray[np.float32]:
    """One voice held for `length` samples or until it has died away, (time,)."""
    import soxr

    rising, falling = int(voice.attack_s * sample_rate), int((voice.attack_s + voice.hold_s) * sample_rate)
    steady = falling + int(voice.decay_s * voice.sustain_db / 100 * sample_rate)
    if voice.sustain_db >= _FLOOR_DB:
        length = min(length, falling + int(voice.decay_s * _FLOOR_DB / 100 * sample_rate))
    needed = math.ceil(length * voice.rate / sample_rate) + 64
    source = voice.samples[:needed]
    if len(voice.loop):
        source = np.concatenate([source, np.resize(voice.loop, max(needed - len(source), 0))])
    # Filtered before resampling: most recordings were made at half of today's rates.
    x = _lowpass(source.astype(np.float32) * np.float32(voice.gain / 32768), voice, voice.rate)
    x = np.asarray(soxr.resample(x, voice.rate, sample_rate, quality="MQ")[:length])
    x[:rising] *= _ramp(1 / rising if rising else 0.0, min(rising, len(x)))
    slope = -voice.sustain_db * math.log(10) / 20 / max(steady - falling - 1, 1)
    x[falling:steady] *= np.exp(_ramp(slope, max(min(steady, len(x)) - falling, 0)))
    x[steady:] *= np.float32(10 ** (-voice.sustain_db / 20))
    return x


def _ramp(slope: float, length: int) -> NDArray[np.float32]:
    return (np.arange(length) * slope).astype(np.float32)


def _hold(voices: Sequence[Voice], seconds: float, sample_rate: float) -> _Key:
    release = min(max((v.release_s for v in voices), default=0.0), _LONGEST_RELEASE_S)
    length = math.ceil((seconds + release) * sample_rate)
    audio = np.zeros((2, length), np.float32)
    for voice in voices:
        x = _sound(voice, length, sample_rate)
        angle = (voice.pan + 1) * math.pi / 4
        audio[:, : len(x)] += np.multiply.outer(np.array([math.cos(angle), math.sin(angle)], np.float32), x)
    return _Key(audio, release, voices[0].exclusive if voices else 0)


def render(
    font: SoundFont, bank: int, program: int, notes: Sequence[Note], seconds: float, sample_rate: float
) -> Audio:
    """Plays notes on one instrument.

    Args:
        font: where the instrument is.
        bank: 0 for instruments, 128 for drum kits.
        program: General MIDI program number less one, [0, 127].
        notes: in any order; what sounds after the end is cut.
        seconds: length.
        sample_rate: in Hz.

    Returns:
        audio (2, time), float32, as loud as the soundfont has it.

    Raises:
        DataError: the soundfont has no such program.
    """
    out = np.zeros((2, round(seconds * sample_rate)), np.float32)
    notes = [note for note in notes if note.start < seconds]
    longest: dict[int, float] = {}
    for note in notes:
        longest[note.pitch] = max(longest.get(note.pitch, 0.0), min(note.duration, seconds - note.start))
    keys = {p: _hold(font.voices(bank, program, p), d, sample_rate) for p, d in longest.items()}
    cuts = _exclusive_starts(notes, keys)
    fades: dict[float, Audio] = {}
    for note in notes:
        key = keys[note.pitch]
        duration, release_s = note.duration, key.release_s
        cut = next((s for s in cuts.get(key.exclusive, ()) if s > note.start), math.inf) - note.start
        if cut < duration + release_s:
            duration, release_s = min(duration, cut), _CUT_S
        if release_s not in fades:
            t = np.arange(math.ceil(release_s * sample_rate)) / (release_s * sample_rate)
            fades[release_s] = np.exp(-t * (_FLOOR_DB * math.log(10) / 20)).astype(np.float32)
        # Level follows the square of velocity, section 8.4.1 of the specification.
        level = np.float32((note.velocity / 127) ** 2)
        start, held = round(note.start * sample_rate), round(duration * sample_rate)
        end = min(held + len(fades[release_s]), key.audio.shape[1], out.shape[1] - start)
        held = min(held, end)
        out[:, start : start + held] += key.audio[:, :held] * level
        out[:, start + held : start + end] += key.audio[:, held:end] * (fades[release_s][: end - held] * level)
    return out


def _exclusive_starts(notes: Sequence[Note], keys: dict[int, _Key]) -> dict[int, list[float]]:
    starts: dict[int, list[float]] = {}
    for note in sorted(notes):
        number = keys[note.pitch].exclusive
        if number:
            starts.setdefault(number, []).append(note.start)
    return starts

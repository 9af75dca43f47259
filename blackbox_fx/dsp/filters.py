"""Equalisers of second-order recursive filters."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from blackbox_fx.dsp.moving import held
from blackbox_fx.dsp.sections import HOLD, cascade
from blackbox_fx.errors import ParameterError

_HIGHEST = 0.49  # of the sample rate: from 0.5 upwards these designs are unstable
_BUTTERWORTH = math.sqrt(0.5)
PEAKS = 4  # of the six-band equaliser
BANDS_HZ = tuple(
    float(f"{base}e{power}")
    for power in (1, 2, 3, 4)
    for base in ("1", "1.25", "1.6", "2", "2.5", "3.15", "4", "5", "6.3", "8")
)[3:34]
_BAND_Q = 1 / (2 ** (1 / 6) - 2 ** (-1 / 6))  # a third of an octave
_ROUNDS = 4  # in which the gains of its peaks are found, and one more
_BAND_HIGHEST = 0.46  # of the sample rate, for the centre of a band


def _turn(freq_hz: Tensor, sample_rate: float) -> tuple[Tensor, Tensor]:
    w = freq_hz.clamp(max=_HIGHEST * sample_rate) * (2 * math.pi / sample_rate)
    return w.cos(), w.sin()


def _section(b: tuple[Tensor, Tensor, Tensor], a: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    """The coefficients of one filter, or of several of the same kind, as `cascade` takes them: (..., 5)."""
    return torch.stack([*b, *a[1:]], -1) / a[0][..., None]


def _shelf(sample_rate: float, gain_db: Tensor, freq_hz: Tensor, q: Tensor, *, high: bool) -> Tensor:
    cos, sin = _turn(freq_hz, sample_rate)
    sign = -1.0 if high else 1.0  # a high shelf is a low shelf with the frequency axis mirrored
    cos = sign * cos
    a = 10 ** (gain_db / 40)
    width = a.sqrt() * sin / q
    up, down = a + 1, a - 1
    return _section(
        (a * (up - down * cos + width), sign * 2 * a * (down - up * cos), a * (up - down * cos - width)),
        (up + down * cos + width, sign * -2 * (down + up * cos), up + down * cos - width),
    )


def _peak(sample_rate: float, gain_db: Tensor, freq_hz: Tensor, q: Tensor | float) -> Tensor:
    cos, sin = _turn(freq_hz, sample_rate)
    a = 10 ** (gain_db / 40)
    alpha = sin / (2 * q)
    return _section((1 + alpha * a, -2 * cos, 1 - alpha * a), (1 + alpha / a, -2 * cos, 1 - alpha / a))


def _pass(sample_rate: float, freq_hz: Tensor, *, high: bool) -> Tensor:
    """A Butterworth filter of second order."""
    cos, sin = _turn(freq_hz, sample_rate)
    alpha = sin / (2 * _BUTTERWORTH)
    sign = -1.0 if high else 1.0
    edge = (1 - sign * cos) / 2
    return _section((edge, sign * 2 * edge, edge), (1 + alpha, -2 * cos, 1 - alpha))


def _apply(audio: Tensor, coefficients: Tensor) -> Tensor:
    """Filters of each item for all of its channels: (batch, filters, 5), or (batch, blocks, filters, 5)."""
    batch, channels, time = audio.shape
    rows = audio.reshape(batch * channels, time)
    return cascade(rows, coefficients.repeat_interleave(channels, 0)).reshape(audio.shape)


def parametric_eq(
    audio: Tensor,
    sample_rate: float,
    *,
    low_shelf_gain_db: Tensor,
    low_shelf_freq_hz: Tensor,
    low_shelf_q: Tensor,
    peak_gain_db: Tensor,
    peak_freq_hz: Tensor,
    peak_q: Tensor,
    high_shelf_gain_db: Tensor,
    high_shelf_freq_hz: Tensor,
    high_shelf_q: Tensor,
) -> Tensor:
    """A low shelf, a peak and a high shelf in series: those of pedalboard, with gradients.

    Computed in float64 whatever the audio: in float32 a shelf at 30 Hz is off by 4e-4. Frequencies above
    0.49 of the sample rate count as 0.49 of it.

    Args:
        audio: any channel count.
        sample_rate: in Hz.
        low_shelf_gain_db: gain in dB far below the shelf's frequency.
        low_shelf_freq_hz: where the shelf has half its gain in dB, above 0 Hz.
        low_shelf_q: steepness, above 0; overshoots from 0.71 upwards.
        peak_gain_db: gain in dB at the centre of the peak.
        peak_freq_hz: centre of the peak, above 0 Hz.
        peak_q: centre frequency over bandwidth, above 0.
        high_shelf_gain_db: gain in dB far above the shelf's frequency.
        high_shelf_freq_hz: where the shelf has half its gain in dB, above 0 Hz.
        high_shelf_q: steepness, above 0; overshoots from 0.71 upwards.

    Returns:
        The filtered audio.

    Shape:
        - audio and output: (batch, channel, time)
        - every parameter: (batch,), or (batch, time) where it moves; filters change every 32 samples

    References:
        "Cookbook formulae for audio EQ biquad filter coefficients" (Bristow-Johnson, 1998)
        "Differentiable Time-Varying Linear Prediction in the Context of End-to-End Analysis-by-Synthesis" (Yu and
        Fazekas, 2024)
    """
    bands = held(
        HOLD,
        *(low_shelf_gain_db, low_shelf_freq_hz, low_shelf_q),
        *(peak_gain_db, peak_freq_hz, peak_q),
        *(high_shelf_gain_db, high_shelf_freq_hz, high_shelf_q),
    )
    filters = [
        _shelf(sample_rate, *bands[:3], high=False),
        _peak(sample_rate, *bands[3:6]),
        _shelf(sample_rate, *bands[6:], high=True),
    ]
    return _apply(audio, torch.stack(filters, -2))


def six_band_eq(
    audio: Tensor,
    sample_rate: float,
    *,
    high_pass_hz: Tensor,
    low_shelf_gain_db: Tensor,
    low_shelf_freq_hz: Tensor,
    low_shelf_q: Tensor,
    peak_1_gain_db: Tensor,
    peak_1_freq_hz: Tensor,
    peak_1_q: Tensor,
    peak_2_gain_db: Tensor,
    peak_2_freq_hz: Tensor,
    peak_2_q: Tensor,
    peak_3_gain_db: Tensor,
    peak_3_freq_hz: Tensor,
    peak_3_q: Tensor,
    peak_4_gain_db: Tensor,
    peak_4_freq_hz: Tensor,
    peak_4_q: Tensor,
    high_shelf_gain_db: Tensor,
    high_shelf_freq_hz: Tensor,
    high_shelf_q: Tensor,
    low_pass_hz: Tensor,
) -> Tensor:
    """The equaliser of a channel strip: a high-pass, a low shelf, four peaks, a high shelf and a low-pass in series.

    Computed in float64 whatever the audio. Frequencies above 0.49 of the sample rate count as 0.49 of it.

    Args:
        audio: any channel count.
        sample_rate: in Hz.
        high_pass_hz: where the high-pass takes 3 dB, above 0 Hz; 12 dB an octave below.
        low_shelf_gain_db: gain in dB far below the shelf's frequency.
        low_shelf_freq_hz: where the shelf has half its gain in dB, above 0 Hz.
        low_shelf_q: steepness, above 0; overshoots from 0.71 upwards.
        peak_1_gain_db: gain in dB at the centre of the peak.
        peak_1_freq_hz: centre of the peak, above 0 Hz.
        peak_1_q: centre frequency over bandwidth, above 0.
        peak_2_gain_db: gain in dB at the centre of the peak.
        peak_2_freq_hz: centre of the peak, above 0 Hz.
        peak_2_q: centre frequency over bandwidth, above 0.
        peak_3_gain_db: gain in dB at the centre of the peak.
        peak_3_freq_hz: centre of the peak, above 0 Hz.
        peak_3_q: centre frequency over bandwidth, above 0.
        peak_4_gain_db: gain in dB at the centre of the peak.
        peak_4_freq_hz: centre of the peak, above 0 Hz.
        peak_4_q: centre frequency over bandwidth, above 0.
        high_shelf_gain_db: gain in dB far above the shelf's frequency.
        high_shelf_freq_hz: where the shelf has half its gain in dB, above 0 Hz.
        high_shelf_q: steepness, above 0; overshoots from 0.71 upwards.
        low_pass_hz: where the low-pass takes 3 dB, above 0 Hz; 12 dB an octave above.

    Returns:
        The filtered audio.

    Shape:
        - audio and output: (batch, channel, time)
        - every parameter: (batch,), or (batch, time) where it moves; filters change every 32 samples

    References:
        "Cookbook formulae for audio EQ biquad filter coefficients" (Bristow-Johnson, 1998)
    """
    high_pass, low_pass, *bands = held(
        HOLD,
        *(high_pass_hz, low_pass_hz),
        *(low_shelf_gain_db, low_shelf_freq_hz, low_shelf_q),
        *(peak_1_gain_db, peak_1_freq_hz, peak_1_q),
        *(peak_2_gain_db, peak_2_freq_hz, peak_2_q),
        *(peak_3_gain_db, peak_3_freq_hz, peak_3_q),
        *(peak_4_gain_db, peak_4_freq_hz, peak_4_q),
        *(high_shelf_gain_db, high_shelf_freq_hz, high_shelf_q),
    )
    gains, freqs, qs = (torch.stack(bands[3 + k : -3 : 3], -1) for k in range(3))
    filters = [
        _pass(sample_rate, high_pass, high=True)[..., None, :],
        _shelf(sample_rate, *bands[:3], high=False)[..., None, :],
        _peak(sample_rate, gains, freqs, qs),
        _shelf(sample_rate, *bands[-3:], high=True)[..., None, :],
        _pass(sample_rate, low_pass, high=False)[..., None, :],
    ]
    return _apply(audio, torch.cat(filters, -2))


def graphic_eq(audio: Tensor, sample_rate: float, **gains_db: Tensor) -> Tensor:
    """A graphic equaliser of 31 bands, a third of an octave each, whose response goes through the gains that are set.

    Every band is a peak, and reaches into its neighbours. So the gains of the peaks are found from those that are set,
    by Newton's method on the response at all centres. Bands whose centre lies above 0.46 of the sample rate do nothing.
    Computed in float64 whatever the audio.

    Args:
        audio: any channel count.
        sample_rate: in Hz, above 100.
        **gains_db: gains in dB at the centres of bands, by name: gain_db_20_hz, gain_db_25_hz, gain_db_31_5_hz to
            gain_db_20000_hz; those left out are 0.

    Returns:
        The filtered audio.

    Raises:
        ParameterError: no gain, or one of an unknown name.

    Shape:
        - audio and output: (batch, channel, time)
        - every parameter: (batch,), or (batch, time) where it moves; filters change every 32 samples

    References:
        "The quest for the best graphic equalizer" (Liski and Välimäki, 2017), which solves for interacting gains.
    """
    unknown = [name for name in gains_db if name not in BAND_NAMES]
    if unknown or not gains_db:
        raise ParameterError(
            f"graphic_eq takes gains such as {BAND_NAMES[0]} to {BAND_NAMES[-1]}, got {', '.join(unknown) or 'none'}."
        )
    count = sum(hz < _BAND_HIGHEST * sample_rate for hz in BANDS_HZ)
    flat = torch.zeros_like(next(iter(gains_db.values())))
    wanted = torch.stack(held(HOLD, *(gains_db.get(name, flat) for name in BAND_NAMES[:count])), -1)
    centres = wanted.new_tensor(BANDS_HZ[:count])
    gains = _gains_of_peaks(wanted, torch.tan(centres * (math.pi / sample_rate)))
    return _apply(audio, _peak(sample_rate, gains, centres.expand_as(gains), _BAND_Q))


BAND_NAMES = tuple(f"gain_db_{f'{hz:g}'.replace('.', '_')}_hz" for hz in BANDS_HZ)


def _gains_of_peaks(wanted: Tensor, tangents: Tensor) -> Tensor:
    """Gains in dB of peaks whose response in series goes through the wanted gains, (..., bands), at their centres.

    Args:
        wanted: in dB, (..., bands).
        tangents: of half the angle of each centre, (bands,).
    """
    ratio = tangents[:, None] / tangents
    detuned = ((1 - ratio**2) * _BAND_Q / ratio).square()  # of a centre (row) from a peak (column)
    gains = wanted.detach()
    for left in range(_ROUNDS, -1, -1):
        power = 10 ** (gains / 20)[..., None, :]
        above, below = detuned + power, detuned + 1 / power
        response = 10 * (above / below).log10().sum(-1)
        slopes = (power / above + 1 / (power * below)) / 2
        # the last round has a gradient, which is that of the solution
        missing = (wanted if left == 0 else wanted.detach()) - response
        gains = gains + torch.linalg.solve(slopes, missing)
    return gains

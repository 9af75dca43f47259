"""Filter, gain, filter."""

from __future__ import annotations

from typing import Literal, final

import numpy as np

from blackbox_fx.core.lazy import scipy
from blackbox_fx.estimators.audio_rules.base import Model, Modelled, Probe, Signal, Site
from blackbox_fx.estimators.audio_rules.operators import Filter, Gain, Series, Wire
from blackbox_fx.estimators.audio_rules.pointwise import ratio
from blackbox_fx.estimators.audio_rules.probes import SMALL, Impulse, Noise

Where = Literal["before", "after", "around"]
_KNOTS = (0, 0.002, 0.01, *np.linspace(0.025, 0.975, 39).tolist(), 0.99, 0.998, 1)  # quantiles, dense for clippers


def _split(response: Signal, samples: int) -> tuple[Filter, Filter]:
    """The first few milliseconds after the onset, and what makes the rest of them; (channel, channel, time)."""
    length = response.shape[-1]
    paths = np.einsum("cct->ct", response)
    level = np.abs(paths).max(axis=0)
    onset = int(np.argmax(level > 0.05 * level.max()))
    window = np.zeros(length)
    window[: onset + samples] = 1
    fade = 0.5 + 0.5 * np.cos(np.pi * np.arange(samples) / samples)
    end = min(length, onset + 2 * samples)
    window[onset + samples : end] = fade[: max(0, end - onset - samples)]
    size = scipy.fft.next_fast_len(2 * length, real=True)
    first = np.fft.rfft(paths * window, size)
    power = np.abs(first) ** 2
    inverse = first.conj() / (power + 1e-4 * power.mean(axis=-1, keepdims=True) + 1e-30)
    rest = np.fft.irfft(np.fft.rfft(response, size) * inverse[:, None], size)[..., :length]
    eye = np.eye(len(paths))[..., None]
    return Filter(eye * (paths * window)[:, None]), Filter(rest)


@final
class TwoStage(Modelled):
    """For one nonlinear stage among filters, black to us: J = after * gain * before.

    The filters come from one impulse in silence, the gain from one random probe.

    Args:
        filters: place of the impulse response: before the gain, after it, or its first 5 ms before and the rest after
            (as in an equaliser, a distortion and a reverb).
        curve: whether the gain is a function of the filtered clip's momentary value, as that of a distortion is.
        smooth: samples over which the gain, or its residual after a curve, is averaged; 0 for the curve alone.
        size: of the probe, against the clip's root mean square.
    """

    def __init__(self, filters: Where = "after", curve: bool = False, smooth: int = 64, size: float = SMALL) -> None:
        super().__init__()
        self.filters, self.curve, self.smooth, self.size = filters, curve, smooth, size

    def probes(self) -> tuple[Probe, ...]:
        """The impulse response, and random signs."""
        return Impulse(), Noise(0, self.size)

    def fit(self, site: Site) -> Model:
        """Least squares for the gain between the two filters."""
        response = site[Impulse()]
        before: Model = Wire()
        after: Model = Wire()
        if self.filters == "around":
            before, after = _split(response, int(0.005 * site.sample_rate))
        elif self.filters == "before":
            before = Filter(response)
        else:
            after = Filter(response)
        u, ju = site[Noise(0, self.size)]
        inside, wanted = before.push(u), after.pull(ju)
        gain = np.ones_like(u)
        if self.curve:
            gain = curve_gain(before.push(site.x), inside, after, ju)
        if self.smooth or not self.curve:
            seen = after.pull(after.push(gain * inside))
            gain = gain * ratio(wanted * inside * gain, seen * inside * gain, self.smooth)
        return Series((before, Gain(gain), after))

    def extra_repr(self) -> str:
        """How it is laid out."""
        return f"filters={self.filters!r}, curve={self.curve}, smooth={self.smooth}, size={self.size:g}"


def curve_gain(clip: Signal, inside: Signal, after: Model, ju: Signal) -> Signal:
    """The gain as a function of the clip's value, in hats over its quantiles, by least squares on J u."""
    knots = np.unique(np.quantile(clip, _KNOTS))
    if len(knots) < 2:
        knots = np.array([knots[0], knots[0] + 1.0])
    place = np.clip(np.searchsorted(knots, clip) - 1, 0, len(knots) - 2)
    above = (clip - knots[place]) / np.diff(knots)[place] * inside
    hats = np.zeros((len(knots), *clip.shape))  # times what goes in
    np.put_along_axis(hats, place[None], (inside - above)[None], 0)
    np.put_along_axis(hats, place[None] + 1, above[None], 0)
    answers = np.stack([after.push(np.asarray(hat)).ravel() for hat in hats])
    gram = answers @ answers.T
    ridge = (1e-6 * np.trace(gram) / len(gram) + 1e-30) * np.eye(len(gram))
    weights = np.linalg.solve(gram + ridge, answers @ ju.ravel())
    return np.interp(clip, knots, weights)

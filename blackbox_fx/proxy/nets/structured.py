"""The stages that most effects are made of, as one trainable graph."""

from __future__ import annotations

import math
from typing import final

import torch
from torch import Tensor, nn

from blackbox_fx.errors import ParameterError
from blackbox_fx.proxy.nets.base import Measured, ProxyNet, centred
from blackbox_fx.proxy.nets.convolution import fast_length
from blackbox_fx.proxy.nets.gains import SMOOTHS, Gain
from blackbox_fx.proxy.nets.stages import Capacitor, Curve, Filter, Steer
from blackbox_fx.proxy.nets.tails import Tail

_LOWEST_HZ = 20.0
_RINGING = 8192  # samples after which a crossover is quiet


@final
class Structured(ProxyNet):
    """A filter, a gain that follows the level, a curve, a capacitor, a second filter and a reverberation, as wanted.

    Each part works as the same part of an effect does, so that only the dependence of its few numbers on the parameters
    is learnt. `blackbox-fx bench nets` compares it with a TCN and an LSTM.

    Args:
        width, sample_rate: see `ProxyNet`.
        filters: filters, 0, 1 or 2; the first before the gain, the second after the curve.
        gain: whether there is a gain.
        bands: bands of frequency with gains of their own.
        smooths: what gains smooth, "level", "gain" or "either", which is then learned.
        curve: whether there is a curve.
        scaled: whether levels before and after the curve follow from the parameters by exponentials.
        capacitor: whether constants fade after it, as in amplifiers.
        tail_seconds: length of the reverberation, 0 for none.

    Raises:
        ParameterError: no stage at all, or a number that makes no sense.
    """

    def __init__(
        self,
        width: int,
        sample_rate: float,
        filters: int = 2,
        gain: bool = True,
        bands: int = 1,
        smooths: str = "either",
        curve: bool = True,
        scaled: bool = False,
        capacitor: bool = False,
        tail_seconds: float = 0.0,
    ) -> None:
        super().__init__(width, sample_rate)
        if filters not in (0, 1, 2) or bands < 1 or tail_seconds < 0 or not (filters or gain or curve or tail_seconds):
            raise ParameterError(
                f"A structured net needs 0 to 2 filters, got {filters!r}, 1 or more bands, got {bands!r}, a tail of 0 "
                f"seconds or more, got {tail_seconds!r}, and one stage at least."
            )
        if smooths not in SMOOTHS:
            raise ParameterError(f"smooths must be one of {', '.join(SMOOTHS)}, got {smooths!r}.")
        self.before = Filter(width, sample_rate) if filters else None
        self.gains = nn.ModuleList(Gain(width, sample_rate, smooths=smooths) for _ in range(bands if gain else 0))
        self.split = Split(width, sample_rate, bands) if bands > 1 else None
        self.curve = Curve(width, scaled=scaled) if curve else None
        self.capacitor = Capacitor(width, sample_rate) if capacitor else None
        self.after = Filter(width, sample_rate) if filters > 1 else None
        self.tail = Tail(width, sample_rate, tail_seconds) if tail_seconds else None

    @torch.no_grad()
    def start_from(self, measured: Measured) -> None:
        """Starts the reverberation from the impulse response."""
        if self.tail is not None:
            late = measured.response[1 : self.tail.length + 1]
            self.tail.carrier.zero_()
            self.tail.carrier[1 : len(late) + 1] = late[: self.tail.length - 1]

    @property
    def is_filter(self) -> bool:
        """Whether it is one filter and nothing else."""
        return self.before is not None and not (self.gains or self.curve or self.capacitor or self.after or self.tail)

    def spectrum(self, params: Tensor, bins: Tensor) -> Tensor:
        """The frequency response, (batch, bins), of a net that is a filter, at bins of a transform of RESPONSE samples.

        Args:
            params: (batch, width) in [0, 1].
            bins: whole numbers.
        """
        assert self.before is not None and self.is_filter
        return self.before.spectrum(centred(params), bins)

    def process(self, x: Tensor, p: Tensor) -> Tensor:
        """The output; see `ProxyNet.process`."""
        if self.before is not None:
            x = self.before(x, p)
        if self.gains:
            parts = self.split(x, p) if self.split is not None else [x]
            x = torch.stack([gain(part, p) for gain, part in zip(self.gains, parts, strict=True)]).sum(0)
        for stage in (self.curve, self.capacitor, self.after, self.tail):
            if stage is not None:
                x = stage(x, p)
        return x


@final
class Split(nn.Module):
    """Bands of frequency, by crossovers of fourth order one after the other.

    The frequency of a crossover is predicted from the parameters; its shape is fixed. At first, its two outputs sum to
    the input. It can learn any crossover whose sum is the input or its all-pass version (Linkwitz and Riley).

    Args:
        width: of the parameters.
        sample_rate: in Hz.
        bands: their number.

    References:
        "A family of linear-phase crossover networks of high slope derived by time delay" (Lipshitz and Vanderkooy,
        1983).
    """

    def __init__(self, width: int, sample_rate: float, bands: int) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        places = torch.logspace(math.log2(_LOWEST_HZ), math.log2(sample_rate / 2), bands + 1, base=2)[1:-1].log()
        self.place = Steer(width, places)
        # (1 + s / sqrt(2)) / (1 + sqrt(2) s + s^2), and what it leaves, both over and under one more such polynomial
        root = math.sqrt(0.5)
        self.damping = nn.Parameter(torch.full((bands - 1, 2), root).log())
        self.low = nn.Parameter(torch.tensor([3 * root, 2.0, root]).repeat(bands - 1, 1))
        self.high = nn.Parameter(torch.tensor([3 * root, 2.0, root]).repeat(bands - 1, 1))

    def forward(self, x: Tensor, p: Tensor) -> list[Tensor]:
        """Splits x (items, time)."""
        time = x.shape[-1]
        n = fast_length(time + _RINGING)
        tangent = torch.tan(math.pi * (torch.arange(n // 2 + 1, device=x.device) / n).clamp_max(0.4999))
        hz = self.place(p).exp().clamp(_LOWEST_HZ, 0.49 * self.sample_rate)
        rest = torch.fft.rfft(x, n)
        bands = []
        for k, warped in enumerate(torch.tan(math.pi * hz / self.sample_rate).unbind(1)):
            # powers of s = j tangent / warped, all divided by (1 + |s|)^4 for the ends of the axis
            w = warped[:, None] / (warped[:, None] + tangent)
            v = 1 - w
            w2, v2, wv = w * w, v * v, w * v
            wv2, even = wv * wv, w2 - v2
            (y, z), (a, b, c), (d, e, f) = self.damping[k].exp(), self.low[k], self.high[k]
            below = rest / torch.complex(even * even - 4 * y * z * wv2, 2 * (y + z) * wv * even)
            bands.append(below * torch.complex(w2 * w2 - b * wv2, wv * (a * w2 - c * v2)))
            rest = below * torch.complex(v2 * v2 - e * wv2, wv * (f * w2 - d * v2))
        return list(torch.fft.irfft(torch.stack([*bands, rest], 1), n)[..., :time].unbind(1))

"""The stages that most effects are made of, as one trainable graph."""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from blackbox_fx.errors import ParameterError
from blackbox_fx.proxy.nets.base import ProxyNet
from blackbox_fx.proxy.nets.stages import Curve, Filter, Gain, Tail, log_grid


@final
class Structured(ProxyNet):
    """A filter, a gain that follows the level, a curve, a second filter and a reverberation, as far as they are wanted.

    Each part does what such a part does in an effect, so that little has to be learnt: how its few numbers follow from
    the parameters. `blackbox-fx bench nets` compares it with a TCN and an LSTM.

    Args:
        width, sample_rate: see `ProxyNet`.
        filters: filters, 0, 1 or 2; the first before the gain, the second after the curve.
        gain: whether there is a gain.
        bands: bands of frequency with gains of their own.
        curve: whether there is a curve.
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
        curve: bool = True,
        tail_seconds: float = 0.0,
    ) -> None:
        super().__init__(width, sample_rate)
        if filters not in (0, 1, 2) or bands < 1 or tail_seconds < 0 or not (filters or gain or curve or tail_seconds):
            raise ParameterError(
                f"A structured net needs 0 to 2 filters, got {filters!r}, 1 or more bands, got {bands!r}, a tail of 0 "
                f"seconds or more, got {tail_seconds!r}, and one stage at least."
            )
        self.before = Filter(width, sample_rate) if filters else None
        self.gains = nn.ModuleList(Gain(width, sample_rate) for _ in range(bands if gain else 0))
        self.split = Split(width, sample_rate, bands) if bands > 1 else None
        self.curve = Curve(width) if curve else None
        self.after = Filter(width, sample_rate) if filters > 1 else None
        self.tail = Tail(width, sample_rate, tail_seconds) if tail_seconds else None

    @torch.no_grad()
    def meet(self, response: Tensor) -> None:
        """Starts the reverberation from an impulse response of the effect, (time,)."""
        if self.tail is not None:
            late = response[1 : self.tail.length + 1]
            self.tail.carrier.zero_()
            self.tail.carrier[1 : len(late) + 1] = late[: self.tail.length - 1]

    def _imitate(self, x: Tensor, p: Tensor) -> Tensor:
        if self.before is not None:
            x = self.before(x, p)
        if self.gains:
            parts = self.split(x, p) if self.split is not None else [x]
            x = torch.stack([gain(part, p) for gain, part in zip(self.gains, parts, strict=True)]).sum(0)
        for stage in (self.curve, self.after, self.tail):
            if stage is not None:
                x = stage(x, p)
        return x


@final
class Split(nn.Module):
    """Bands of frequency that add up to the whole, with edges predicted from the parameters; without phase.

    Args:
        width: of the parameters.
        sample_rate: in Hz.
        bands: how many.
        knots: on the logarithmic axis of frequency.
    """

    def __init__(self, width: int, sample_rate: float, bands: int, knots: int = 48) -> None:
        super().__init__()
        self.bands, self.knots, self.sample_rate = bands, knots, sample_rate
        self.edges = nn.Linear(width, 2 * (bands - 1))

    def forward(self, x: Tensor, p: Tensor) -> list[Tensor]:
        """Splits x (items, time)."""
        time, pad = x.shape[-1], 1024
        n = time + 2 * pad
        place = torch.linspace(0, 1, self.knots, device=x.device)
        shift, steep = (self.edges(p).tanh()).chunk(2, dim=1)
        start = (torch.arange(self.bands - 1, device=x.device) + 1) / self.bands
        edges = (start + shift / 2)[..., None]
        below = torch.sigmoid((edges - place) * 40 * torch.exp(steep[..., None]))  # (items, bands - 1, knots)
        shares = torch.cat([below, torch.ones_like(below[:, :1])], 1) - torch.cat(
            [torch.zeros_like(below[:, :1]), below], 1
        )
        grid = log_grid(n // 2 + 1, self.knots, self.sample_rate).to(x)
        spectrum = torch.fft.rfft(torch.nn.functional.pad(x, (pad, pad)), n)[:, None]
        parts = torch.fft.irfft(spectrum * (shares @ grid), n)[..., pad : pad + time]
        return list(parts.unbind(1))

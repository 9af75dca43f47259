"""What twins cost, beside the same effects of other libraries where these are installed."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, final

import torch
from torch import Tensor

from blackbox_fx.core.progress import Progress, quiet
from blackbox_fx.dsp import TWINS, Twin

RATE = 44100
_LONG_S = 5.0  # a first pass that takes longer is the only one
_GRAFX: dict[str, tuple[str, dict[str, Any]]] = {
    "six_band_eq": ("ParametricEqualizer", {"num_filters": 8, "flashfftconv": False}),
    "graphic_eq": ("GraphicEqualizer", {"scale": "third_octave", "flashfftconv": False}),
    "soft_knee_compressor": ("Compressor", {"energy_smoother": "ballistics", "flashfftconv": False}),
    "noise_gate": ("NoiseGate", {"energy_smoother": "ballistics", "flashfftconv": False}),
    "waveshaper": ("TanhDistortion", {"use_bias": True}),
    "feedback_delay": ("MultitapDelay", {"flashfftconv": False}),
    "reverberation": ("FilteredNoiseShapingReverb", {"sr": RATE, "flashfftconv": False}),
}
_DASP = {
    "six_band_eq": "parametric_eq",
    "soft_knee_compressor": "compressor",
    "reverberation": "noise_shaped_reverberation",
}
# ranges of dasp's parameters, by what is in their names
_RANGES = {"gain_db": (-12, 12), "freq": (100, 8000), "q_factor": (0.3, 4), "attack": (1, 50), "release": (20, 500)}
_RANGES |= {"threshold": (-40, -10), "ratio": (1.5, 8), "knee": (1, 12)}
Run = Callable[[Tensor], Tensor]


@final
@dataclasses.dataclass(frozen=True)
class Cost:
    """What one effect of one library costs, in ms for a clip.

    Args:
        effect: the twin's name.
        library: whose effect it is.
        forward: with a graph for the backward pass.
        backward: for all parameters and audio.
        kept: MB that are kept for the backward pass.
    """

    effect: str
    library: str
    forward: float
    backward: float
    kept: float


def twin_costs(clips: int, seconds: float, rounds: int, progress: Progress = quiet) -> Iterator[Cost]:
    """Times all twins, and their peers in dasp-pytorch and grafx where these can be imported, in turn.

    Args:
        clips: of stereo noise, with settings of their own.
        seconds: length of each.
        rounds: timed passes, of which medians are taken.
        progress: called with twins done, their number, and the present one.
    """
    audio = 0.1 * torch.randn(clips, 2, round(seconds * RATE), generator=torch.Generator().manual_seed(0))
    for done, twin in enumerate(TWINS.values()):
        progress(done, len(TWINS), twin.name)
        found = {"blackbox_fx": _twin(twin, clips)}
        for library, make in (("dasp-pytorch", _dasp), ("grafx", _grafx)):
            if (run := make(twin.name, clips)) is not None:
                found[library] = run
        times = _times(found, audio, rounds)
        for library, run in found.items():
            forward, backward = (1e3 * statistics.median(part) / clips for part in zip(*times[library], strict=True))
            yield Cost(twin.name, library, forward, backward, _kept(run, audio) / clips)


def _times(runs: Mapping[str, Run], audio: Tensor, rounds: int) -> dict[str, list[tuple[float, float]]]:
    times = {library: [_pass(run, audio)] for library, run in runs.items()}
    for _ in range(rounds):
        for library, run in runs.items():
            if sum(times[library][0]) < _LONG_S:
                times[library].append(_pass(run, audio))
    return {library: own[1:] or own for library, own in times.items()}


def _pass(run: Run, audio: Tensor) -> tuple[float, float]:
    x = audio.clone().requires_grad_()
    began = time.perf_counter()
    loss = run(x).square().sum()
    middle = time.perf_counter()
    loss.backward()
    return middle - began, time.perf_counter() - middle


def _kept(run: Run, audio: Tensor) -> float:
    """MB of all tensors that a forward pass keeps."""
    sizes: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        storage = x.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        out = run(audio.clone().requires_grad_())
    del out
    return sum(sizes.values()) / 1e6


def _twin(twin: Twin, clips: int) -> Run:
    params = torch.from_numpy(0.2 + 0.6 * twin.space.sample(clips, 0)).float().requires_grad_()
    return lambda audio: twin(audio, params, RATE, {name: audio for name in twin.inputs})


def _module(name: str) -> Any:
    """A module, or None if it cannot be imported; grafx needs a torchaudio that loads."""
    try:
        return importlib.import_module(name)
    except (ImportError, OSError):
        return None


def _dasp(effect: str, clips: int) -> Run | None:
    library = _module("dasp_pytorch.functional") if effect in _DASP else None
    if library is None:
        return None
    function, draw = getattr(library, _DASP[effect]), torch.Generator().manual_seed(0)
    numbers = []
    for name, parameter in list(inspect.signature(function).parameters.items())[2:]:
        if parameter.default is parameter.empty:
            low, high = next((ends for part, ends in _RANGES.items() if part in name), (0, 1))
            numbers.append((low + (high - low) * torch.rand(clips, generator=draw)).requires_grad_())
    return lambda audio: function(audio, RATE, *numbers)


def _grafx(effect: str, clips: int) -> Run | None:
    library = _module("grafx.processors") if effect in _GRAFX else None
    if library is None:
        return None
    kind, arguments = _GRAFX[effect]
    processor, draw = getattr(library, kind)(**arguments), torch.Generator().manual_seed(0)
    numbers = {}
    for name, size in processor.parameter_size().items():
        shape = size if isinstance(size, list | tuple) else (size,)
        numbers[name] = (0.5 * torch.rand(clips, *shape, generator=draw)).requires_grad_()

    def run(audio: Tensor) -> Tensor:
        out = processor(audio, **numbers)
        return out[0] if isinstance(out, tuple) else out

    return run

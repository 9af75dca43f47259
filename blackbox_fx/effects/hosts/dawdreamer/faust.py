"""Faust programs, compiled and hosted by dawdreamer."""

from __future__ import annotations

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, final

import numpy as np

from blackbox_fx.effects.hosts.dawdreamer.engine import DawDreamer, Loaded
from blackbox_fx.effects.hosts.dawdreamer.layout import Layout
from blackbox_fx.effects.hosts.host import Host
from blackbox_fx.effects.request import Settings
from blackbox_fx.effects.texts import python_names
from blackbox_fx.errors import EffectError
from blackbox_fx.space import Choice, Continuous, Integer, Parameter, Space, Toggle

# a slider of more positions than this has a step only for the mouse
_FEW = 33
_PREPENDED = 3  # lines that the host puts before a program
_LABEL = r'"((?:[^"\\]|\\.)*)"'
_WIDGETS = re.compile(
    rf"open(?P<box>\w+)Box\({_LABEL}\)|(?P<close>closeBox)\(\)|declare\(&(?P<of>\w+), {_LABEL}, {_LABEL}\)"
    rf"|add(?P<kind>\w+)\({_LABEL}, &(?P<zone>\w+)(?P<numbers>[^;]*)\);"
)


@dataclasses.dataclass(frozen=True)
class _Widget:
    """A control or a meter of a program: kind as in "HorizontalSlider", path of labels, default, low, high, step."""

    kind: str
    path: tuple[str, ...]
    numbers: tuple[float, ...]
    metadata: dict[str, str]

    def parameter(self) -> tuple[Parameter, dict[str, float]]:
        """What it controls, and the numbers that stand for the options of a menu."""
        unit = self.metadata.get("unit", "")
        if not self.numbers:
            return Toggle(False), {}
        default, low, high, step = self.numbers
        menu = re.match(r"(?:menu|radio)\s*\{(.*)\}", self.metadata.get("style", ""))
        if menu:
            options = {m[0]: float(m[1]) for m in re.findall(r"'([^']*)'\s*:\s*([-+.\deE]+)", menu[1])}
            chosen = min(options, key=lambda option: abs(options[option] - default), default="")
            if len(options) > 1:
                return Choice(tuple(options), chosen), options
        stepped = step > 0 and (self.kind == "NumEntry" or (high - low) / step < _FEW)
        if stepped and step == 1 and low == int(low) and high == int(high):
            return Integer(int(low), int(high), round(default), unit), {}
        log = self.metadata.get("scale") == "log" and low > 0
        return Continuous(low, high, default, unit, log=log, step=step if stepped and step <= high - low else 0), {}


def _widgets(source: str) -> list[_Widget]:
    """The controls and meters that the C++ code of a program declares, in order."""
    start = source.find("buildUserInterface")
    path: list[str] = []
    metadata: dict[str, dict[str, str]] = {}
    found = []
    for match in _WIDGETS.finditer(source, start, source.find("compute(", start)):
        box, of, kind, zone = match.group("box", "of", "kind", "zone")
        if box:
            path.append(match.group(2))
        elif match.group("close"):
            path.pop()
        elif of:
            metadata.setdefault(of, {})[match.group(5)] = match.group(6)
        else:
            numbers = tuple(map(float, re.findall(r"FAUSTFLOAT\(([^)]*?)f?\)", match.group("numbers"))))
            found.append(_Widget(kind, (*path[1:], match.group(8)), numbers, metadata.get(zone, {})))
    return found


def _source(path: str | os.PathLike[str]) -> tuple[str, str]:
    """The text of a .dsp file, and the folder in which what it imports may lie."""
    given = Path(path).expanduser()
    try:
        return given.read_text(encoding="utf-8"), str(given.resolve().parent)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise EffectError(f"Cannot read {path} ({reason}); give a .dsp file, or code='process = ...'.") from error


@final
class Faust(DawDreamer):
    """A Faust program, as fast as compiled C++, with parameters in its own units.

    Sliders, number entries, checkboxes and buttons are parameters with the ranges, defaults and units that the program
    declares, on a logarithmic axis with `[scale:log]`; menus and radio buttons are choices. Number entries, and sliders
    of at most 33 positions, keep to their steps; the step of a finer slider is ignored, as Faust does. A parameter is
    named by its label and unit ("gain_db"), with its groups before where that is needed to distinguish two.

    Settings that change during a clip take effect at the exact sample. Buttons are parameters like checkboxes: one that
    is pressed is held down during the whole render. Bargraphs are meters, and no parameters.

    A program of one channel renders each channel separately. One of two gets mono audio on both channels, and its left
    output is returned; of more channels, the first two are used. One with one input and two outputs gets the mean of
    the channels. One or two inputs more than there are outputs are the input "sidechain", see `Effect.inputs`: one gets
    the mean of its channels, two get left and right.

    Args:
        path: the .dsp file, or any name for `code`.
        code: the text of the program, instead of a file.
        reset, sample_rate: see `DawDreamer`.

    Raises:
        EffectError: no such file, code that does not compile, or a program with too many or too few inputs for its
            outputs, or none.
        MissingHost: dawdreamer is not installed.
    """

    automatable = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        code: str | None = None,
        reset: str | None = None,
        sample_rate: float = 44100,
    ) -> None:
        if code is not None and not isinstance(code, str):
            raise EffectError(f"code must be the text of a Faust program, got {code!r}.")
        self.code, self.folder = _source(path) if code is None else (code, "")
        self.addresses: dict[str, str] = {}
        self.menus: dict[str, dict[str, float]] = {}
        if not self.code.strip():
            raise EffectError(f"faust:{Path(path).stem} is empty; write a program, such as process = _ * 0.5;.")
        super().__init__(f"faust:{Path(path).stem}", reset, sample_rate)

    def _learn(self, choose: bool) -> None:
        with self.handle() as engines:
            processor = next(iter(engines.values())).processor
            self.layout = self._layout(processor.get_num_input_channels(), processor.get_num_output_channels())
            self.space = self._read(processor)
        if choose:
            self.choose_reset()

    def _layout(self, inputs: int, outputs: int) -> Layout:
        """As many inputs as outputs, up to two more for a side chain, or one input and two outputs."""
        surplus = inputs - outputs
        if surplus not in (0, 1, 2) and (inputs, outputs) != (1, 2):
            raise EffectError(
                f"{self.name} has {inputs} inputs and {outputs} outputs; write a program with as many of both, with "
                "one or two inputs more for a side chain, or with one input and two outputs."
            )
        return Layout.of(inputs, outputs, range(outputs, inputs))

    def _make(self, engine: Any, sample_rate: float) -> Any:
        processor = engine.make_faust_processor("effect")
        if self.folder:
            processor.faust_libraries_paths = [self.folder]
        processor.set_dsp_string(self.code)
        try:
            processor.compile()
        except RuntimeError as error:
            raise EffectError(
                f"Cannot compile {self.name} ({self._complaint(str(error))}); mend the program."
            ) from error
        return processor

    def _complaint(self, text: str) -> str:
        """What the compiler says, with the line of the program in place of those of the host, and of no paths of it."""
        text = " ".join(text.split("Check the faustlibraries path")[0].split()).removeprefix(
            "FaustProcessor::compile(): "
        )
        text = re.sub(r" ?: ERROR : |^ERROR : |\?\?\?\?:-1", ": ", text).replace(" : ", " ").strip(" :.")
        found = re.match(r"dawdreamer:(\d+): (.*)", text)
        if not found:
            return text
        number, lines = int(found[1]) - _PREPENDED, self.code.splitlines()
        shown = f" in {lines[number - 1].strip():.80}" if 0 < number <= len(lines) else ""
        return f"line {number}: {found[2]}{shown}"

    def _read(self, processor: Any) -> Space:
        described = processor.get_parameters_description()
        widgets = _widgets(self._cpp()) if described else []
        if len(widgets) != len(described):
            raise EffectError(f"{self.name} has {len(described)} parameters, but {len(widgets)} were understood.")
        controls = [(w, p) for w, p in zip(widgets, described, strict=True) if not w.kind.endswith("Bargraph")]
        counts = Counter(w.path[-1] for w, _ in controls)
        labels = [" ".join(w.path if counts[w.path[-1]] > 1 else w.path[-1:]) for w, _ in controls]
        units = [w.metadata.get("unit", "") for w, _ in controls]
        parameters: dict[str, Parameter] = {}
        for name, (widget, p) in zip(python_names(labels, units), controls, strict=True):
            parameters[name], self.menus[name] = widget.parameter()
            self.addresses[name] = p["name"]
        return Space(parameters)

    def _cpp(self) -> str:
        """The program as C++, where all that it declares of its controls can be read."""
        faust = import_module("dawdreamer.faust")
        flags = ["-I", self.folder] if self.folder else []
        with faust.FaustContext():
            return str(faust.box.boxToSource(faust.box.boxFromDSP(self.code, flags), "cpp", "effect", flags))

    def set(self, loaded: Loaded, blocks: Sequence[Settings], hop: int) -> None:
        """Sets all parameters, for each block of `hop` samples if there are several."""
        for name, address in self.addresses.items():
            values = [float(self.menus[name][str(b[name])] if self.menus[name] else b[name]) for b in blocks]
            if len(set(values)) == 1:
                loaded.processor.set_parameter(address, values[0])
            else:
                loaded.processor.set_automation(address, np.repeat(np.array(values, np.float32), hop))


HOST = Host(
    name="faust",
    effect=Faust,
    example="faust:program.dsp",
    package="dawdreamer",
    extra="dawdreamer",
    endings=(".dsp",),
)

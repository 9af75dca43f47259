"""A VST3 plugin under examination."""

from __future__ import annotations

import contextlib
import random
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, final

import numpy as np

from blackbox_fx.effects import ordering
from blackbox_fx.effects.hosts.vst3.hosting import (
    BLOCK,
    RATE,
    Array,
    LatencyMoved,
    Manners,
    apply,
    begin,
    clip,
    flush,
    set_raws,
    stream,
    wait,
)
from blackbox_fx.effects.ordering import is_stepped

Row = list[float]  # raw values of the parameters that are not the host's
EQUAL, ACTS, NEAR = 1e-6, 1e-5, 1e-3  # differences relative to the largest sample
BRIEF, SHORT, LONG = 2, 8, 36  # blocks of a clip
MOMENT = 32  # samples in which a setting arrives
_SEED = 2  # of the first settings that are drawn
# what hosts and wrappers add to the plugin's own parameters
HOST_PARAMETERS = ("Buffer Size", "Sample Rate", "Latency", "Current Program")
# names that a meter may have; some plugins report that their meters can be automated
_METER = re.compile(r"reduction|meter|\boutput\b|\bvu\b|\brms\b", re.IGNORECASE)


def _channels(plugin: Any) -> int:
    for channels in (2, 1):
        with contextlib.suppress(ValueError):
            flush(plugin, channels, RATE)
            return channels
    return 0


def _texts(native: Any) -> list[str]:
    steps = native.num_steps if 2 <= native.num_steps <= 1000 else 5
    return [native.get_text_for_raw_value(k / (steps - 1)) for k in range(steps)]


def moved(row: Row, k: int) -> Row:
    """A row with one parameter elsewhere."""
    return [_elsewhere(v) if j == k else v for j, v in enumerate(row)]


def _elsewhere(raw: float) -> float:
    return (raw + 0.5) % 1 if raw < 1 else 0.0  # a switch that is on is off there


@final
class Bench:
    """A plugin under examination, rendered at raw settings of its own parameters, as `VST3` does.

    Args:
        make: gives a new instance.
        settle: seconds that one needs after it was loaded.
        slow: indices of the parameters after whose change it needs them, too.
        gentle: whether parameters that may move others are tried at one position only.
    """

    def __init__(
        self, make: Callable[[], Any], settle: float = 0.0, slow: Sequence[int] = (), gentle: bool = False
    ) -> None:
        self._make, self._settle, self._slow, self.gentle = make, settle, slow, gentle
        self.plugin = make()
        self.channels = _channels(self.plugin)
        wait(settle)
        self.parameters = [
            {
                "index": k,
                "name": native.name,
                "label": native.label.strip(),
                "steps": native.num_steps,
                "raw": float(native.raw_value),
                "texts": _texts(native),
                "why": "is the host's" if native.name in HOST_PARAMETERS else "",
            }
            for k, native in enumerate(self.plugin._parameters)
        ]
        natives = self.plugin._parameters
        self.steps = [(k, native.num_steps) for k, native in enumerate(natives)]
        self._stood: Row | None = None  # of slow parameters
        self.first: list[int] = []
        self.forgets = False
        self.moment = BLOCK  # samples of silence that go before a render, for settings to take effect
        self.silence = 0  # blocks that go before the audio
        self._doubted = {k for k, p in enumerate(natives) if not p.is_automatable or _METER.search(p.name)}
        # pedalboard found that audio survives a reset, so it reloads the plugin, which loses the settings
        self.reset = "reload" if self.plugin._reload_type.name == "PersistsAudioOnReset" else "host"
        self.audio = clip(max(1, self.channels), SHORT)

    @property
    def manners(self) -> Manners:
        """What it needs before it renders, as far as that is known."""
        return Manners(self.first, self.steps, self._settle, self._slow, self.forgets, self.moment)

    @property
    def own(self) -> list[dict[str, Any]]:
        """The parameters that are not excluded so far."""
        return [p for p in self.parameters if not p["why"]]

    @property
    def doubts(self) -> list[int]:
        """Indices into `own` of the parameters that may do nothing."""
        return [k for k, p in enumerate(self.own) if p["index"] in self._doubted]

    @property
    def sure(self) -> list[int]:
        """Indices into `own` of the others."""
        return [k for k, p in enumerate(self.own) if p["index"] not in self._doubted]

    @property
    def defaults(self) -> Row:
        """Where its own parameters stand in a new instance."""
        return [p["raw"] for p in self.own]

    def random(self, seed: int) -> Row:
        """Random settings of its own parameters; options stay at their defaults if it does not survive all."""
        rng = random.Random(_SEED + seed)  # of Python, since importing that of numpy takes as long as many renders
        drawn = [rng.random() for _ in self.own]
        kept = [self.gentle and is_stepped(p["steps"]) for p in self.own]
        return [p["raw"] if keep else u for p, keep, u in zip(self.own, kept, drawn, strict=True)]

    def rows(self) -> list[Row]:
        """Random settings: with options at their defaults, since some mute; elsewhere; and anywhere (gentle)."""
        drawn, options = self.random(0), {k for k in self.sure if is_stepped(self.own[k]["steps"])}
        if self.gentle or not options:
            return [drawn]
        calm = [self.own[k]["raw"] if k in options else u for k, u in enumerate(drawn)]
        return [calm, [_elsewhere(u) if k in options else u for k, u in enumerate(calm)], drawn]

    def raws(self) -> Row:
        """Where its own parameters stand now."""
        native = self.plugin._parameters
        return [float(native[p["index"]].raw_value) for p in self.own]

    def renew(self) -> None:
        """Takes a new instance, which is ready."""
        self.plugin, self._stood = self._make(), None
        if self._settle:
            flush(self.plugin, self.channels, RATE)
            wait(self._settle)

    def _given(self, row: Row) -> dict[int, float]:
        """What is set for a row, by index; a meter only if it stands elsewhere."""
        now = self.raws()
        return {
            p["index"]: value
            for p, then, value in zip(self.own, now, row, strict=True)
            if then != value or p["index"] not in self._doubted
        }

    def _waits(self, row: Row) -> bool:
        """Whether slow parameters move."""
        before, self._stood = self._stood, [u for u, p in zip(row, self.own, strict=True) if p["index"] in self._slow]
        return before != self._stood

    def put(self, raws: ordering.Raws) -> None:
        """Sets parameters by index, and lets them take effect."""
        self._stood = None
        set_raws(self.plugin, raws)
        flush(self.plugin, self.channels, RATE, MOMENT)

    def begin(self, row: Row, reset: bool = True) -> None:
        """See `hosting.begin`."""
        begin(self.plugin, self._given(row), self.channels, RATE, self.manners, reset, self._waits(row))

    def apply(self, row: Row) -> None:
        """See `hosting.apply`."""
        apply(self.plugin, self._given(row), self.channels, RATE, self.manners, self._waits(row))

    def view(self, hop: int = 0) -> Array:
        """The output of the plugin as it is, after its reset."""
        if self.reset == "host":
            self.plugin.reset()
        return self._stream(hop, lambda k: None)

    def again(self, row: Row, hop: int) -> Array:
        """The output at the row that was rendered last."""
        return self.render(row, hop) if self.reset == "reload" or self.forgets else self.view(hop)

    @contextlib.contextmanager
    def briefly(self, blocks: int = BRIEF) -> Iterator[None]:
        """Gives it a brief clip."""
        self.audio, audio = clip(max(1, self.channels), blocks), self.audio
        try:
            yield
        finally:
            self.audio = audio

    def restart(self) -> None:
        """Resets it; some put themselves back to their defaults only in the first block after that."""
        self.plugin.reset()
        flush(self.plugin, self.channels, RATE)

    def hear(self) -> Array:
        """The output of the plugin as it is, without a reset."""
        return self._stream(0, lambda k: None)

    def _stream(self, hop: int, change: Callable[[int], None], latency: int | None = None) -> Array:
        wet = stream(self.plugin, self.audio, hop or self.audio.shape[1], RATE, change, latency)
        return np.nan_to_num(wet, nan=0.0, posinf=1e9, neginf=-1e9)

    def render(self, row: Row, hop: int = 0, move: float = 0.0) -> Array:
        """The output; with `move`, the parameters that have a range go by it and back from one hop to the next."""
        if self.reset == "reload":
            self.renew()
        self.begin(row, self.reset == "host")
        for _ in range(self.silence):
            flush(self.plugin, self.channels, RATE)
        ranged = [k for k in self.sure if not is_stepped(self.own[k]["steps"])]
        away = {self.own[k]["index"]: row[k] + (move if row[k] < 0.5 else -move) for k in ranged}
        back = {self.own[k]["index"]: row[k] for k in ranged}

        def change(k: int) -> None:
            if k and move:
                set_raws(self.plugin, away if k % 2 else back)

        try:
            return self._stream(hop, change)
        except LatencyMoved as moved:  # a plugin that was just loaded may tell it only now
            if self.reset == "reload":
                self.renew()
            self.begin(row, self.reset == "host")
            return self._stream(0, lambda k: None, moved.args[1])

    def positions(self, k: int) -> list[float]:
        """Where a parameter is tried."""
        return [(self.own[k]["raw"] + 0.5) % 1] if self.gentle else ordering.positions(self.own[k]["steps"])

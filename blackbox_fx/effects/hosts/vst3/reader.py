"""Reads and measures a VST3 plugin by running it in a process of its own: `isolation.call` runs this module."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from typing import Any, final

import numpy as np

from blackbox_fx import isolation
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
    load,
    names_in,
    set_raws,
    stream,
    wait,
)
from blackbox_fx.effects.native import threads
from blackbox_fx.effects.ordering import is_stepped
from blackbox_fx.effects.settling import GROWN, difference, longest

Row = list[float]  # raw values of the parameters that are not the host's
BASES = 8  # random settings at which a parameter in doubt is tried
_SHORT, _LONG = 8, 36  # blocks of a clip
_ROWS = 8  # random settings at which pieces are compared
_EQUAL, _ACTS, _NEAR, _FOLLOWS = 1e-6, 1e-5, 1e-3, 5e-3  # relative to the largest sample
_MOVE = 1e-6  # of a range, which changes the output by next to nothing
_OPTIONS, _AT_ONCE = 64, 16  # positions of options that are tried, and instances that are waited for together
_EVEN, _ODD = 2 * BLOCK, 441  # samples between such moves
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


def _moved(row: Row, k: int) -> Row:
    return [(v + 0.5) % 1 if j == k else v for j, v in enumerate(row)]


@final
class _Bench:
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
        self._make, self._settle, self._slow, self._gentle = make, settle, slow, gentle
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
        self.first: list[int] = []
        self.forgets = False
        self._seen: list[int] = []  # those whose values were seen to move others
        self._doubted = {k for k, p in enumerate(natives) if not p.is_automatable or _METER.search(p.name)}
        # pedalboard found that audio survives a reset, so it reloads the plugin, which loses the settings
        self.reset = "reload" if self.plugin._reload_type.name == "PersistsAudioOnReset" else "host"
        self.audio = clip(max(1, self.channels), _SHORT)

    @property
    def manners(self) -> Manners:
        return Manners(self.first, self.steps, self._settle, self._slow, self.forgets)

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
        return [p["raw"] for p in self.own]

    def random(self, seed: int) -> Row:
        return np.random.default_rng(seed).random(len(self.own)).tolist()

    def raws(self) -> Row:
        native = self.plugin._parameters
        return [float(native[p["index"]].raw_value) for p in self.own]

    def renew(self) -> None:
        """Takes a new instance, which is ready."""
        self.plugin = self._make()
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

    def begin(self, row: Row, reset: bool = True) -> None:
        begin(self.plugin, self._given(row), self.channels, RATE, self.manners, reset)

    def apply(self, row: Row) -> None:
        apply(self.plugin, self._given(row), self.channels, RATE, self.manners)

    def view(self) -> Array:
        """The output of the plugin as it is."""
        if self.reset == "host":
            self.plugin.reset()
        return self._stream(0, lambda k: None)

    def _stream(self, hop: int, change: Callable[[int], None], latency: int | None = None) -> Array:
        wet = stream(self.plugin, self.audio, hop or self.audio.shape[1], RATE, change, latency)
        return np.nan_to_num(wet, nan=0.0, posinf=1e9, neginf=-1e9)

    def render(self, row: Row, hop: int = 0, move: float = 0.0) -> Array:
        """The output; with `move`, the parameters that have a range go by it and back from one hop to the next."""
        if self.reset == "reload":
            self.renew()
        self.begin(row, self.reset == "host")
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
        return [(self.own[k]["raw"] + 0.5) % 1] if self._gentle else ordering.positions(self.own[k]["steps"])

    def go_through(self, k: int, row: Row) -> bool:
        """Takes a parameter to all positions and back; whether another one, and no meter, moves meanwhile."""
        index, others = self.own[k]["index"], [j for j in self.sure if j != k]
        for raw in self.positions(k):
            set_raws(self.plugin, {index: raw})
            flush(self.plugin, self.channels, RATE)
            now = self.raws()
            if any(abs(now[j] - row[j]) > 1e-6 for j in others):
                return True
        set_raws(self.plugin, {index: row[k]})
        flush(self.plugin, self.channels, RATE)
        return False

    def find_first(self, row: Row, report: Callable[[Any], None]) -> None:
        """Finds the parameters that move others: seen in their values, or unseen, in what is heard.

        Args:
            row: settings to start at; the defaults, if only one other position is tried.
            report: as in `examine`.
        """
        self.apply(row)
        now = self.raws()
        if not np.allclose(now, row, rtol=0, atol=1e-6):  # what moves others has moved them since they were set
            self.apply(row)
            now = self.raws()
        for k in self.sure:
            if self.go_through(k, now):
                self._seen.append(self.own[k]["index"])
                self.first = list(self._seen)
                self.renew()
                self.apply(row)
        report("gone through")
        if self._seen or self._gentle or self.reset == "reload":
            return

        def hear(row: ordering.Raws, moves: ordering.Moves, new: bool) -> Array:
            report("heard in another order")
            return self.hear(row, moves, new)

        tried = [(self.own[k], now[k]) for k in self.sure]
        steps, defaults = ({p["index"]: p[what] for p, _ in tried} for what in ("steps", "raw"))
        stands = {p["index"]: raw for p, raw in tried}
        self.first = ordering.find_first(hear, steps, defaults, stands, hear({}, (), False))
        if self.first:
            self.renew()

    def hear(self, row: ordering.Raws, moves: ordering.Moves, new: bool) -> Array:
        """The output after parameters were moved one by one; see `ordering.Hear`."""
        if new:
            self.renew()
        for part in (row, *({index: raw} for index, raw in moves)):
            set_raws(self.plugin, part)
            flush(self.plugin, self.channels, RATE)
        return self.view()

    def exclude_first(self, report: Callable[[Any], None]) -> None:
        """Excludes those whose effect does not repeat although they are set first, or that only move others."""
        for index in list(self.first):
            k = next(k for k, p in enumerate(self.own) if p["index"] == index)
            if why := self._fault_of_first(k):
                self.own[k]["why"] = why
                self.first.remove(index)
                self.renew()
            report("tried what moves others")

    def _fault_of_first(self, k: int) -> str:
        row = self.defaults if self._gentle else self.random(3)
        rows = [row, *([raw if j == k else v for j, v in enumerate(row)] for raw in self.positions(k))]
        once = [self.render(r) for r in rows]
        twice = [self.render(r) for r in reversed(rows)][::-1]
        if max(map(difference, once, twice)) > _NEAR:
            return "moves others, and the same settings then do not give the same output"
        idle = max(difference(once[0], other) for other in once) <= _ACTS
        return "only moves others" if idle and self.own[k]["index"] in self._seen else ""

    def try_reset(self, other: Row) -> tuple[bool, Array, Array]:
        """Chooses the reset.

        Returns:
            Whether a clip may be rendered in pieces, and the renders at the defaults and at `other`.
        """
        first, last, again = self.render(self.defaults), self.render(other), self.render(self.defaults, _EVEN)
        if self.reset == "host" and difference(first, again) > _EQUAL < difference(first, self.render(self.defaults)):
            self.reset = "reload"
            return self.try_reset(other)
        return difference(first, again) <= _NEAR, first, last

    def find_forgets(self) -> bool:
        """Whether settings are heard only if they are set once more after the reset."""

        def acts(forgets: bool) -> bool:
            self.forgets = forgets
            return difference(self.render(self.defaults), self.render(self.random(0))) > _ACTS

        self.forgets = not acts(False) and acts(True)
        return self.forgets

    def hop_multiple(self, whole: Array) -> int:
        """At multiples of how many samples settings may change; 0 if nowhere.

        There, settings that move by next to nothing from hop to hop give nearly the output at the defaults, `whole`,
        and settings that stay give the same output in pieces, at the defaults and elsewhere, as in one.
        """
        if difference(whole, self.render(self.defaults, _ODD, _MOVE)) <= _FOLLOWS:
            rows = (self.defaults, *map(self.random, range(_ROWS)))
            if all(difference(self.render(row), self.render(row, _ODD)) <= _ACTS for row in rows):
                return 1
        return BLOCK if difference(whole, self.render(self.defaults, _EVEN, _MOVE)) <= _FOLLOWS else 0

    def active(self, first: Array, report: Callable[[Any], None]) -> set[int]:
        """The doubtful parameters that change the output at the defaults, which gave `first`, or at random settings."""
        found = {k for k in self.doubts if difference(first, self.render(_moved(self.defaults, k))) > _ACTS}
        self.audio = clip(self.channels, _LONG)
        for row in np.random.default_rng(1).random((BASES, len(self.own))).tolist():
            remaining = [k for k in self.doubts if k not in found]
            if not remaining:
                break
            report(f"{len(remaining)} parameters in doubt")
            base = self.render(row)
            least = _ACTS + 4 * difference(base, self.render(row))
            found |= {k for k in remaining if difference(base, self.render(_moved(row, k))) > least}
        self.audio = clip(self.channels, _SHORT)
        return found

    def choose_reset_and_exclude_idle(self, report: Callable[[Any], None]) -> tuple[bool, Array]:
        """Chooses the reset, and excludes parameters that change nothing.

        Returns:
            Whether a clip may be rendered in pieces, and the render at the defaults.
        """
        # some plugins take long to set and to reset, so a single doubtful parameter is tried together with the reset
        alone = self.doubts[0] if len(self.doubts) == 1 else None
        other = self.random(0)
        if alone is not None:
            other = _moved(self.defaults, alone)
        known = self.reset
        pieces, first, last = self.try_reset(other)
        if self.reset == "host" and difference(first, last) <= _ACTS and self.find_forgets():
            pieces, first, last = self.try_reset(other)
        report("reset")
        measured, self.reset = self.reset, known
        self.find_first(self.defaults if self._gentle else self.random(0), report)
        if self.first:  # what they moved may have looked like something that a reset leaves
            pieces, first, last = self.try_reset(other)
        else:
            self.reset = measured
        acts = alone is not None and difference(first, last) > _ACTS
        active = {alone} if acts else self.active(first, report)
        for p in [self.own[k] for k in self.doubts if k not in active]:
            p["why"] = f"changes nothing at {BASES} random settings"
        self.exclude_first(report)
        return pieces, first

    def remembers(self, k: int) -> bool:
        """Whether moving a parameter and setting it back changes the output of a plugin that otherwise repeats."""
        first, again = self.render(self.defaults), self.render(self.defaults)
        self.render(_moved(self.defaults, k))
        return difference(first, again) <= _EQUAL < _NEAR < difference(first, self.render(self.defaults))


@final
class _Ages:
    """New instances of a plugin, rendered at some age: some are ready only a while after they were loaded or set."""

    def __init__(self, bench: _Bench, report: Callable[[Any], None]) -> None:
        self._bench, self._report = bench, report
        moved = [0.25 + value / 2 for value in bench.random(4)]
        self._base = [p["raw"] if is_stepped(p["steps"]) else u for p, u in zip(bench.own, moved, strict=True)]

    def find(self) -> tuple[float, list[int]]:
        """Seconds until a plugin is ready, and the indices of the parameters after whose change it needs them again."""
        if self._late([self._base]):
            settle, _ = longest([self._base], self._at)
            patient = settle > 0 and self._is_patient(settle)
            return settle, [p["index"] for p in self._bench.own] if patient else []
        options, late = self._options(), []
        for start in range(0, len(options), _AT_ONCE):
            some = options[start : start + _AT_ONCE]
            late += [some[k] for k in self._late([row for _, row in some])]
        settle, slow = longest(late, lambda option, age: self._at(option[1], age))
        return settle, sorted({self._bench.own[k]["index"] for k, _ in slow})

    def _options(self) -> list[tuple[int, Row]]:
        """Positions of options, each alone away from its default: which option it is, and the settings."""
        ways = [
            (k, [u if j == k else v for j, v in enumerate(self._base)])
            for k in self._bench.sure
            if is_stepped(self._bench.own[k]["steps"])
            for u in self._bench.positions(k)
            if u != self._base[k]
        ]
        return ways[:: max(1, -(-len(ways) // _OPTIONS))]

    def _late(self, rows: Sequence[Row]) -> list[int]:
        """Which of these settings sound differently a while after a new instance was given them."""
        young = []
        for row in rows:
            view = self._at(row, 0.0)
            young.append((self._bench.plugin, view))
        wait(GROWN)
        late = []
        for k, (plugin, view) in enumerate(young):
            self._bench.plugin = plugin
            if difference(view, self._bench.view()) > _NEAR:
                late.append(k)
        return late

    def _at(self, row: Row, age: float) -> Array:
        self._bench.renew()
        self._bench.apply(row)
        wait(age)
        self._report(f"{age:g} s old")
        return self._bench.view()

    def _is_patient(self, settle: float) -> bool:
        """Whether a plugin that is ready takes over settings only a while after it got them."""
        self._bench.renew()
        flush(self._bench.plugin, self._bench.channels, RATE)
        wait(settle)
        self._bench.apply(self._base)
        young = self._bench.view()
        wait(settle)
        return self._bench.reset == "host" and difference(young, self._bench.view()) > _NEAR


def examine(
    make: Callable[[], Any], report: Callable[[Any], None], slow: bool = False, gentle: bool = False
) -> dict[str, Any]:
    """Channels, latency, reset and parameters of a plugin.

    Args:
        make: gives a new instance of it.
        report: called now and then with a word on the progress.
        slow: whether it may be ready only a while after it was loaded or set.
        gentle: whether options are tried at one other position only, since it does not survive all of them.

    Returns:
        "channels" (0 if it takes neither 1 nor 2), "latency" in samples, "reset" ("host" if the host's reset removes
        all earlier audio, else "reload": only a new instance is free of it), "automatable" (settings may change during
        a clip), "hop_multiple" (samples, at whose multiples they may), "settle" (seconds until it is ready), "slow"
        (indices of parameters after whose change it needs them, too), "first" (indices of parameters that move others),
        "forgets" (whether a reset puts it back to its defaults) and "parameters": index, name, label, steps, raw (the
        default), texts, and why it is excluded.
    """
    bench = _Bench(make, gentle=gentle)
    settle, waited = 0.0, list[int]()
    if slow and bench.channels:
        settle, waited = _Ages(bench, report).find()
        bench = _Bench(make, settle, waited, gentle)
    answer: dict[str, Any] = {"channels": bench.channels, "latency": 0, "reset": "host", "automatable": False}
    answer |= {"parameters": bench.parameters, "settle": settle, "slow": waited, "first": [], "hop_multiple": 0}
    answer["forgets"] = False
    if not bench.channels:
        return answer
    report("loaded")
    pieces, whole = bench.choose_reset_and_exclude_idle(report)
    if pieces and not bench.first and not waited:
        answer["hop_multiple"] = bench.hop_multiple(whole)
    answer["automatable"] = answer["hop_multiple"] > 0
    answer["reset"], answer["latency"], answer["first"] = (
        bench.reset,
        bench.plugin.reported_latency_samples,
        bench.first,
    )
    answer["forgets"] = bench.forgets
    report("tried")
    if not answer["automatable"]:
        for p in [p for k, p in enumerate(bench.own) if p["index"] not in bench.first and bench.remembers(k)]:
            p["why"] = "is remembered after it was set back"
    return answer


def _reply(question: dict[str, Any], report: Callable[[Any], None]) -> dict[str, Any]:
    path, name, before = question["path"], question["name"], threads()
    try:
        ready = [load(path, name)]
    except (ImportError, ValueError):
        names = names_in(path)
        if name in names or (name is None and len(names) < 2):
            raise
        return {"names": names}
    slow = question["slow"] or threads() > before
    return examine(lambda: ready.pop() if ready else load(path, name), report, slow, question["gentle"])


if __name__ == "__main__":
    isolation.answer(_reply)

"""What of a plugin is found only by running it: its channels, what moves what, and what takes its time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from blackbox_fx.audio import Audio
from blackbox_fx.effects import forgetting, ordering, trials
from blackbox_fx.effects.hosts.dawdreamer.engine import BLOCK, DawDreamer, Loaded
from blackbox_fx.effects.hosts.dawdreamer.layout import Layout
from blackbox_fx.effects.request import Settings
from blackbox_fx.effects.settling import GROWN
from blackbox_fx.errors import EffectError
from blackbox_fx.space import Space

_MOST = 4  # inputs of a plugin that may have a side chain
_REACHED = 1e-4  # part of the energy that the loudest input gives
_AUDIBLE = 1e-3  # part of an input's energy
_SINGLE = 8  # parameters that are moved alone to see whether the latency moves, these first:
_DELAYS = re.compile("look|laten|delay|ahead|over|fft|window|size|quality")
_OLD = GROWN  # seconds after which a plugin is rendered again
_OPTIONS, _DRAWN = 16, 3  # positions of options at which it is, and random settings
_LONG = (0.5, 3.5)  # seconds in which plugins are ready
_THREADS = Path("/proc/self/task")
_BRIEF = 8 * BLOCK  # samples in which it is heard what a plugin forgets
_AT_ONCE = 1e-6  # seconds: no wait, but silence before the audio
_WAITS = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # seconds that are tried; twice the first that is enough is kept


def find_layout(loaded: Loaded, told: Sequence[int] = ()) -> Layout:
    """The channels of a plugin that stands at its defaults; it is not used after that.

    Hosts say neither what a channel is for nor keep to the order of the plugin's files, so each input is fed alone:
    those that no output gives back are the side chain, if there are as many as there should be. Where that does not
    decide, at several settings if need be, the last inputs are.

    Args:
        loaded: the plugin.
        told: indices of the inputs that the plugin's files call side chains.
    """
    inputs, outputs = loaded.processor.get_num_input_channels(), loaded.processor.get_num_output_channels()
    expected = len(told) or inputs - outputs
    if inputs > _MOST or expected not in (1, 2) or expected == inputs:
        return Layout.of(inputs, outputs)
    rng = np.random.default_rng(0)
    for _ in range(1 if told else _MOST):
        reached = _reached(loaded, inputs)
        silent = [k for k in range(inputs) if k not in reached]
        if len(reached) > min(outputs, 2):
            return Layout.of(inputs, outputs)
        if reached and len(silent) == expected:
            return Layout.of(inputs, outputs, silent)
        for k in range(loaded.processor.get_plugin_parameter_size()):
            loaded.processor.set_parameter(k, float(rng.random()))
    return Layout.of(inputs, outputs, told or range(inputs - expected, inputs))


def _reached(loaded: Loaded, inputs: int) -> set[int]:
    """The inputs that sound in the first two outputs."""
    length = -(-(8 * BLOCK + loaded.processor.get_latency_samples()) // BLOCK) * BLOCK
    noise = 0.3 * np.random.default_rng(0).standard_normal(length)

    def wet(k: int | None) -> Audio:
        feed = np.zeros((inputs, length), np.float32)
        if k is not None:
            feed[k] = noise
        loaded.connect()
        return np.nan_to_num(loaded.run(feed)[:2])

    still = wet(None)
    energies = [float(np.square(wet(k) - still).sum()) for k in range(inputs)]
    least = max(_REACHED * max(energies), _AUDIBLE * float(np.square(noise).sum()))
    return {k for k, energy in enumerate(energies) if energy > least}


def late_latency(effect: DawDreamer, loaded: Loaded) -> int:
    """The largest latency in samples, if at some settings it is told only after they were in use; else 0."""
    seen: list[tuple[int, int]] = []
    for settings in delaying(effect.space):
        effect.set(loaded, [settings], 0)
        told = effect.latency_of(loaded.processor)
        effect.pass_silence(loaded)
        loaded.connect()
        seen.append((told, effect.latency_of(loaded.processor)))
    return max(after for _, after in seen) if any(told != after for told, after in seen) else 0


def delaying(space: Space) -> list[Settings]:
    """Settings that may have other latencies than the defaults."""
    rows = [*space.sample(3, 1), np.zeros(space.width), np.ones(space.width)]
    alone = sorted(space.parameters, key=lambda name: not _DELAYS.search(name))[:_SINGLE]
    moved = trials.moved(space)
    return [space.defaults | space.decode(row) for row in rows] + [moved(space.defaults, name) for name in alone]


def meters(loaded: Loaded, inputs: int) -> set[int]:
    """The parameters that move by themselves while audio goes through."""
    processor = loaded.processor
    loaded.run(np.zeros((inputs, BLOCK), np.float32))  # what goes back to its default then is no meter
    before = _texts(processor)
    rng = np.random.default_rng(0)
    for _ in range(2):
        loaded.run((0.3 * rng.standard_normal((inputs, 4 * BLOCK))).astype(np.float32))
    return {k for k, (old, new) in enumerate(zip(before, _texts(processor), strict=True)) if old != new}


def movers(loaded: Loaded, steps: dict[int, int], ignored: Iterable[int]) -> list[int]:
    """The parameters that move others at one of their positions, in the order in which they are to be set.

    Args:
        loaded: the plugin, at its defaults; it is brought back to them.
        steps: how many positions each parameter has, by index; of one that moves freely, the ends are tried.
        ignored: the parameters that may be moved, such as meters.
    """
    processor = loaded.processor
    raws = {k: float(processor.get_parameter(k)) for k in steps}
    watched = [k for k in range(processor.get_plugin_parameter_size()) if k not in set(ignored)]
    silence = np.zeros((processor.get_num_input_channels(), BLOCK), np.float32)
    found: dict[int, set[int]] = {}

    def put(row: dict[int, float]) -> None:
        for k, raw in row.items():
            processor.set_parameter(k, raw)

    # what is moved may be moved to its default
    row = ordering.random_row(steps)
    put(row)
    for k, count in steps.items():
        before = _values(processor, watched)
        for position in ordering.positions(count):
            processor.set_parameter(k, position)
            if moved := _moved(before, _values(processor, watched), k):
                break
        else:
            loaded.run(silence)
            moved = _moved(before, _values(processor, watched), k)
        found[k] = moved
        put({k: row[k], **(row if moved else {})})
    put(raws)
    put(raws)  # what was moved meanwhile
    return ordering.sorted_movers(found)


def _texts(processor: Any) -> list[str]:
    return [processor.get_parameter_text(k) for k in range(processor.get_plugin_parameter_size())]


def _values(processor: Any, watched: Sequence[int]) -> dict[int, str]:
    return {k: processor.get_parameter_text(k) for k in watched}


def _moved(before: dict[int, str], after: dict[int, str], mover: int) -> set[int]:
    return {k for k, text in before.items() if k != mover and after[k] != text}


def forgets(effect: DawDreamer, is_pure: bool, say: Callable[[str], None]) -> bool:
    """Whether a parameter is back at its default when a render begins; see `forgetting.forgets`.

    Args:
        effect: the plugin.
        is_pure: whether its reset is one that leaves nothing, so that no new one is needed for each render.
        say: called before each render.
    """
    feed, _ = effect.jobs()[0]
    run = effect.run_at if is_pure else effect.run_afresh
    effect.forgets = True
    lead = effect.lead  # of silence in either case, so that what moves by itself is where it is in the other
    late = np.pad(feed[:, :_BRIEF], ((0, 0), (lead, 0)))

    def wet(row: Settings, forgets: bool) -> Audio:
        say("heard what it forgets")
        effect.forgets = forgets
        return run(late[:, lead:], row) if forgets else run(late, row)[:, lead:]

    found = forgetting.forgets(wet, trials.rows(effect.space), [*effect.space.parameters], trials.moved(effect.space))
    effect.forgets = False
    return found


def works_aside(effect: DawDreamer) -> bool:
    """Whether a plugin starts threads, without which it cannot become ready later; True where that cannot be seen."""
    if not _THREADS.is_dir():
        return True
    before = _threads()
    loaded = effect.load_one(effect.sample_rate, BLOCK)
    seen = _threads()
    for settings in (*(settings for _, settings in effect.jobs()[-2:]), *_options(effect)):
        effect.set(loaded, [settings], 0)
        seen |= _threads()
        effect.pass_silence(loaded)
        seen |= _threads()
    return not seen <= before


def _threads() -> set[str]:
    return {path.name for path in _THREADS.iterdir()}


def takes_time(effect: DawDreamer, old: Loaded, fresh: Audio, feed: Audio, settings: Settings) -> Audio | None:
    """What a plugin gives a while after it was loaded and set, if that is other audio; else None.

    Args:
        effect: the plugin, with its reset.
        old: one of it that was set as soon as it was loaded, and then let silence through.
        fresh: what a new one gives at once.
        feed: what was rendered, (inputs, time).
        settings: at which it was.
    """
    time.sleep(max(0.0, old.since + _OLD - time.monotonic()))
    aged = effect.run_on(old, feed, [settings], 0)
    if np.array_equal(aged, fresh):
        return None
    if not np.array_equal(effect.run_afresh(feed, settings), fresh):
        return None  # each one gives something else, whatever the time
    if effect.reset == "reload" or old.reborn:  # the silence before may be heard
        young = effect.load_one(effect.sample_rate, BLOCK)
        prepare(effect, young, settings)
        if np.array_equal(aged, effect.run_on(young, feed, [settings], 0)):
            return None
    return aged


def _options(effect: DawDreamer) -> list[Settings]:
    """Positions of options, each alone away from the defaults, and some random settings."""
    space = effect.space
    ways: list[Settings] = [
        {**space.defaults, name: value}
        for name, p in space.parameters.items()
        if ordering.is_stepped(p.positions)
        for value in (p.decode(np.array([u])) for u in ordering.positions(p.positions))
        if value != p.default
    ]
    drawn = [settings for _, settings in effect.jobs()[:_DRAWN]] if ways else []
    return ways[:: max(1, -(-len(ways) // _OPTIONS))] + drawn


def late_options(effect: DawDreamer, feed: Audio) -> list[Settings]:
    """Settings with one option away from the defaults that sound differently a while after they were set."""

    def prepared(settings: Settings) -> Loaded:
        loaded = effect.load_one(effect.sample_rate, BLOCK)
        prepare(effect, loaded, settings)
        return loaded

    keeps = effect.reset == "reload"  # what it has heard

    def hear(settings: Settings) -> tuple[Settings, Loaded, Audio]:
        loaded = prepared(settings)
        wet = effect.run_on(loaded, feed, [settings], 0)
        return settings, prepared(settings) if keeps or loaded.reborn else loaded, wet

    def changes(settings: Settings, loaded: Loaded, young: Audio) -> bool:
        if effect.reset == "graph" and not loaded.reborn:
            loaded.connect()
        return not np.array_equal(effect.run_on(loaded, feed, [settings], 0), young)

    heard = [hear(settings) for settings in _options(effect)]
    time.sleep(_OLD if heard else 0)
    return [one[0] for one in heard if changes(*one)]


def prepare(effect: DawDreamer, loaded: Loaded, settings: Settings) -> None:
    """Lets the settings arrive at a plugin, and puts it at its beginning, unless that would be a new one."""
    effect.set(loaded, [settings], 0)
    effect.pass_silence(loaded)
    if not loaded.reborn:
        loaded.connect()


def measure_times(effect: DawDreamer, feed: Audio, settings: Settings, aged: Audio) -> tuple[float, float]:
    """The `settle` and the `pause` of an effect beyond which waiting changes nothing; it is left with others.

    Args:
        effect: the plugin.
        feed: what is rendered, (inputs, time).
        settings: at which it is.
        aged: what it gave when it had been loaded and set a while ago.

    Raises:
        EffectError: it is not ready after some seconds.
    """

    def wet(settle: float, pause: float) -> Audio:
        effect.settle, effect.pause = settle, pause
        return effect.run_afresh(feed, settings)

    def least(render: Callable[[float], Audio]) -> float:
        """Twice the shortest wait that gives what long ones give; 0 if there is no need to wait."""
        young = render(0.0)
        for long in _LONG:
            if np.array_equal(last := render(long), render(2 * long)):
                if long < _LONG[-1] and np.array_equal(last, young) and not np.array_equal(last, aged):
                    continue  # it may take longer
                if not np.array_equal(render(0.0), young):
                    return 0.0  # it differs whatever the time
                return 2 * next((wait for wait in (0.0, *_WAITS) if np.array_equal(render(wait), last)), long)
        raise EffectError(
            f"{effect.name} gives other audio whenever it is asked, even {_LONG[-1]:g} seconds after it was loaded, so "
            "that no render can be repeated; choose another effect."
        )

    only_settings = not np.array_equal(wet(_OLD, 0.0), aged) and np.array_equal(wet(0.0, _OLD), aged)
    settle = 0.0 if only_settings else least(lambda wait: wet(wait, 0.0))
    pause = 0.0
    if not np.array_equal(wet(settle, 0.0), aged) and not np.array_equal(wet(settle, _AT_ONCE), wet(settle, _OLD)):
        pause = least(lambda wait: wet(settle, max(wait, _AT_ONCE)))
    return settle, pause

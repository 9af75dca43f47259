"""Reads and measures a VST3 plugin by running it in a process of its own: `isolation.call` runs this module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from blackbox_fx import isolation
from blackbox_fx.core.system import threads
from blackbox_fx.effects.hosts.vst3.ages import Ages
from blackbox_fx.effects.hosts.vst3.bench import Bench
from blackbox_fx.effects.hosts.vst3.hosting import load, names_in
from blackbox_fx.effects.hosts.vst3.measures import Measures


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
    bench = Bench(make, gentle=gentle)
    settle, waited = 0.0, list[int]()
    if slow and bench.channels:
        settle, waited = Ages(bench, report).find()
        bench = Bench(make, settle, waited, gentle)
    answer: dict[str, Any] = {"channels": bench.channels, "latency": 0, "reset": "host", "automatable": False}
    answer |= {"parameters": bench.parameters, "settle": settle, "slow": waited, "first": [], "hop_multiple": 0}
    answer["forgets"] = False
    if not bench.channels:
        return answer
    report("loaded")
    measures = Measures(bench, report)
    pieces, whole = measures.choose_reset_and_exclude_idle()
    if pieces and not bench.first and not waited:
        answer["hop_multiple"] = measures.hop_multiple(whole)
    answer["automatable"] = answer["hop_multiple"] > 0
    answer["reset"], answer["latency"], answer["first"] = (
        bench.reset,
        measures.latency,
        bench.first,
    )
    answer["forgets"] = bench.forgets
    report("tried")
    if not answer["automatable"]:
        for p in [p for k, p in enumerate(bench.own) if p["index"] not in bench.first and measures.remembers(k)]:
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

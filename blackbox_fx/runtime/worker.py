"""The worker process: `python -m blackbox_fx.runtime.worker SOCKET SHARED PARENT FOLDER MEMORY_MB`.

`Processes` alone starts it. It opens effects once, renders on request, and ends with its parent.
"""

from __future__ import annotations

import collections
import dataclasses
import faulthandler
import logging
import os
import pickle
import signal
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, final

import numpy as np

from blackbox_fx.audio import Audio
from blackbox_fx.effects.base import Effect
from blackbox_fx.errors import BlackBoxError, NotFinite
from blackbox_fx.isolation import limits
from blackbox_fx.runtime.arena import Arena
from blackbox_fx.runtime.base import Job, inner
from blackbox_fx.runtime.policy import OPENING, STARTING
from blackbox_fx.runtime.process import Answer, Reply, portable

_OPENING_CPU = 600  # seconds of computing that opening an effect may take
_TRUSTED = 3  # outputs without life that proved genuine, after which one in _SELDOM is looked at
_SELDOM = 64


def _lifeless(x: Audio, y: Audio) -> bool:
    """Whether an output is silent or dry, for audio that is not silent; a few samples decide in most cases."""
    few = slice(None), slice(None, None, max(1, x.shape[1] // 64))
    if y[few].any() and not np.array_equal(x[few], y[few]):
        return False
    return bool(x.any()) and (not y.any() or np.array_equal(x, y))


@final
class _Server:
    """What a worker knows: the effects it opened, and its present task."""

    def __init__(self, arena: Arena, growth: limits.Growth) -> None:
        self._arena, self._growth = arena, growth
        self._effects: dict[str, Effect] = {}
        self._recipes: dict[str, bytes] = {}
        self._failures: dict[str, BlackBoxError] = {}
        self._genuine: collections.Counter[str] = collections.Counter()
        self._task: dict[str, Any] = {}
        self._job: Job | None = None

    def serve(self, connection: Connection) -> None:
        """Answers messages until the connection closes."""
        own = os.getpid()

        def send(reply: Reply) -> None:
            if os.getpid() != own:  # an effect forked, and its child came back from the render
                os._exit(0)
            answers, *rest = reply
            connection.send_bytes(pickle.dumps(([*map(tuple, answers)], *rest)))  # `send` takes several times as long

        send(Reply([Answer(STARTING)]))
        while True:
            kind, *content = pickle.loads(connection.recv_bytes())
            if kind == "path":
                sys.path[:] = content[0]
            elif kind == "forget":
                for known in (self._effects, self._recipes, self._failures):
                    known.pop(content[0], None)
            elif kind == "open":
                send(self._open(*content))
            else:
                order, task = content
                if task is not None:
                    self._task, self._job = task, None
                send(self._carry_out(order))

    def _open(self, key: str, recipe: bytes) -> Reply:
        limits.allow_cpu(_OPENING_CPU)
        self._growth.opened()
        try:
            self._recipes[key] = recipe
            self._effects[key] = pickle.loads(recipe)
            self._effects[key].open()
        except Exception as error:
            self._failures[key] = portable(error)
        return Reply([Answer(OPENING, self._failures.get(key))], key)

    def _carry_out(self, order: list[int]) -> Reply:
        key, began, answers, grown = self._task["effect"], self._arena.view(self._task["began"]), [], False
        limits.allow_cpu(self._task["cpu"])
        for n in order:
            began[n] = time.monotonic()
            answers.append(self._answer(n, key))
            grown = self._growth.rendered()
            if grown or isinstance(answers[-1].value, NotFinite):
                break
        return Reply(answers, key, grown)

    def _answer(self, n: int, key: str) -> Answer:
        start, stale = time.perf_counter(), False
        try:
            value, stale = (self._failures[key], False) if key in self._failures else self._render(n, key)
        except (Exception, SystemExit) as error:
            value = portable(error)
        return Answer(n, value, time.perf_counter() - start, stale)

    def _render(self, n: int, key: str) -> tuple[Any, bool]:
        """An inner product or None, and whether the output was lifeless until the effect was reopened."""
        task, see = self._task, self._arena.view
        if self._job is None:
            self._job = self._build_job(key)
        job = self._job
        item = job.items[n]
        y, stale = job.render(n), False
        if job.effect.native and _lifeless(job.audio[item], y) and self._doubts(key):
            fresh = dataclasses.replace(job, effect=pickle.loads(self._recipes[key]))
            again = fresh.render(n)
            if stale := not np.array_equal(again, y):
                y, self._job, self._effects[key], self._genuine[key] = again, fresh, fresh.effect, 0
        if task["cotangent"] is not None:
            return inner(see(task["cotangent"], writeable=False)[item], y, task["stretch"]), stale
        np.copyto(see(task["out"])[n], y)
        return None, stale

    def _build_job(self, key: str) -> Job:
        task, see = self._task, self._arena.view
        audio, points, items = (see(task[name], writeable=False) for name in ("audio", "points", "items"))
        inputs = {name: see(slot, writeable=False) for name, slot in task["inputs"].items()}
        rate, hop = task["sample_rate"], task["hop"]
        return Job(self._effects[key], audio, points, items, rate, hop, inputs=inputs, is_checked=True)

    def _doubts(self, key: str) -> bool:
        """Whether to look twice at an output without life: rarely, once some of an effect have proved genuine."""
        self._genuine[key] += 1
        return self._genuine[key] <= _TRUSTED or self._genuine[key] % _SELDOM == 0


def main() -> None:
    """Entry point."""
    socket, shared, parent = map(int, sys.argv[1:4])
    folder, memory_mb = Path(sys.argv[4]), float(sys.argv[5])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    limits.limit()
    limits.follow(parent, folder)
    try:
        _Server(Arena(shared), limits.Growth(memory_mb * 2**20)).serve(Connection(socket))
    except (EOFError, ConnectionError):
        # a parent that lives ends its workers itself, and one that ended is noticed meanwhile
        time.sleep(10 * limits.POLL)
        limits.leave(folder)
    except BaseException:
        traceback.print_exc()
    finally:
        # plugins may crash or hang in their destructors, which no longer matters
        os._exit(1)


if __name__ == "__main__":
    main()

"""The worker process: `python -m blackbox_fx.runtime.worker SOCKET MEMORY PARENT`, started by `Processes` alone.

It opens effects once, renders what it is told, and ends with its parent.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from blackbox_fx import errors
from blackbox_fx.effects.base import Effect
from blackbox_fx.errors import BlackBoxError, EffectError
from blackbox_fx.runtime.arena import Arena
from blackbox_fx.runtime.base import Job


def _follow_parent(parent: int) -> None:
    # a closed socket tells an idle worker; this tells one that is busy
    while os.getppid() == parent:
        time.sleep(0.25)
    os._exit(1)


def _portable(error: BaseException) -> BlackBoxError:
    """The error as one that every process can unpickle, with the worker's traceback as a note."""
    # a subclass that the user made may neither unpickle nor take one text
    kind = next((c for c in type(error).__mro__ if c.__module__ == errors.__name__), EffectError)
    text = str(error) if isinstance(error, BlackBoxError) else f"{type(error).__name__}: {error}"
    portable = kind(text)
    portable.add_note("In the worker:\n" + "".join(traceback.format_exception(error)))
    return portable


def serve(connection: Connection, arena: Arena) -> None:
    """Answers messages until the connection closes."""
    effects: dict[str, Effect] = {}
    failures: dict[str, BlackBoxError] = {}
    task: dict[str, Any] = {}
    while True:
        kind, *content = connection.recv()
        if kind == "path":
            sys.path[:] = content[0]
        elif kind == "task":
            task = content[0]
        elif kind == "forget":
            effects.pop(content[0], None)
        elif kind == "open":
            key, recipe = content
            try:
                effects[key] = pickle.loads(recipe)
                effects[key].open()
            except Exception as error:
                failures[key] = _portable(error)
            connection.send((-1, failures.get(key)))
        else:
            n = content[0]
            try:
                connection.send((n, failures.get(task["effect"]) or _render(n, task, effects[task["effect"]], arena)))
            except Exception as error:
                connection.send((n, _portable(error)))


def _render(n: int, task: dict[str, Any], effect: Effect, arena: Arena) -> Any:
    audio = arena.view(task["audio"], writeable=False)
    params, rows = arena.view(task["params"], writeable=False), arena.view(task["rows"], writeable=False)
    job = Job(effect, audio, params, rows, task["sample_rate"], task["hop"])
    if task["weight"] is not None:
        return job.project(n, arena.view(task["weight"], writeable=False), task["stretch"])
    np.copyto(arena.view(task["out"])[n], job.render(n))
    return None


def main() -> None:
    """Entry point."""
    socket, memory, parent = map(int, sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_follow_parent, args=(parent,), daemon=True).start()
    connection = Connection(socket)
    connection.send("ready")
    try:
        serve(connection, Arena(memory))
    except (EOFError, ConnectionError):
        pass
    finally:
        # plugins may crash or hang in their destructors, which no longer matters
        os._exit(0)


if __name__ == "__main__":
    main()

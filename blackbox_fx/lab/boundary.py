"""The least that rendering in another process costs: copies through shared memory, and a byte each way.

`python -m blackbox_fx.lab.boundary SOCKET SHARED` is that other process.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

import numpy as np

from blackbox_fx.audio import Audio
from blackbox_fx.effects import Effect
from blackbox_fx.effects.request import Settings
from blackbox_fx.errors import WorkerDied
from blackbox_fx.isolation import limits
from blackbox_fx.runtime.arena import Arena, open_anonymous

_DEADLINE = 60.0  # seconds


@contextlib.contextmanager
def bare_worker(
    effect: Effect, shape: tuple[int, int], values: Settings, rate: float
) -> Iterator[Callable[[Audio], Audio]]:
    """A process that renders clips of one shape at one setting, without supervision, jobs or counters.

    Args:
        effect: one that pickles.
        shape: of a clip, (channel, time).
        values: physical values by parameter name.
        rate: in Hz.

    Yields:
        What takes a clip and returns the output.

    Raises:
        WorkerDied: it crashed, or said nothing for a minute.
    """
    arena, folder = Arena(open_anonymous()), limits.make_folder()
    into, out = map(arena.view, slots := arena.reserve((shape, np.float32), (shape, np.float32)))
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-P", "-m", __name__, str(theirs.fileno()), str(arena.fd)]
    environment, fds = limits.environment(folder), (theirs.fileno(), arena.fd)
    process = subprocess.Popen(command, pass_fds=fds, env=environment, stdout=subprocess.DEVNULL)
    theirs.close()
    connection = Connection(ours.detach())

    def ask(message: bytes) -> None:
        with contextlib.suppress(EOFError, OSError):
            connection.send_bytes(message)
            if connection.poll(_DEADLINE) and connection.recv_bytes():
                return
        raise WorkerDied(f"{effect.name} ended its bare process, or hung; see `blackbox-fx check`.")

    def render(clip: Audio) -> Audio:
        np.copyto(into, clip)
        ask(b"render")
        return out.copy()

    try:
        ask(pickle.dumps((slots, effect, values, rate)))
        yield render
    finally:
        connection.close()
        process.kill()
        process.wait(_DEADLINE)
        arena.close()
        limits.clear(folder)


def _serve(connection: Connection, arena: Arena) -> None:
    slots, effect, values, rate = pickle.loads(connection.recv_bytes())
    into, out = map(arena.view, slots)
    connection.send_bytes(b"ready")
    while connection.recv_bytes():
        np.copyto(out, effect.render(into, values, rate))
        connection.send_bytes(b"done")


if __name__ == "__main__":
    with contextlib.suppress(EOFError, OSError):
        _serve(Connection(int(sys.argv[1])), Arena(int(sys.argv[2])))
    os._exit(0)  # plugins may crash or hang in their destructors

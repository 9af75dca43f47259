"""The parent's side of one worker process."""

from __future__ import annotations

import collections
import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from typing import Any, final

from blackbox_fx.errors import WorkerDied

START_DEADLINE = 60.0  # seconds, to start a worker and to open an effect
OPENING = -1  # stands for a render while the worker opens the effect
_CACHED = 256  # effects that a worker keeps open
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@final
class WorkerProcess:
    """A worker process, its socket, and what it was asked to do.

    Args:
        memory: descriptor of the shared file.

    Attributes:
        pending: numbers of the renders it was given, the present one first.
        since: when it began with that one, on the monotonic clock.
    """

    def __init__(self, memory: int) -> None:
        ours, theirs = socket.socketpair()
        # a worker that no longer reads must not hold up the parent, whose deadline then ends it
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(START_DEADLINE), 0))
        with theirs:
            command = [sys.executable, "-P", "-m", "blackbox_fx.runtime.worker", str(theirs.fileno()), str(memory)]
            self.process = subprocess.Popen(
                [*command, str(os.getpid())],
                pass_fds=(theirs.fileno(), memory),
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                env={
                    **dict.fromkeys(_ONE_THREAD, "1"),
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
                },
            )
        self.connection = Connection(ours.detach())
        self.effects: collections.OrderedDict[str, None] = collections.OrderedDict()
        self.pending: collections.deque[int] = collections.deque()
        self.since = 0.0

    def wait_ready(self) -> None:
        """Waits until the process has started. Raises WorkerDied if it does not."""
        if self.connection.poll(START_DEADLINE) and self.receive() == "ready":
            self.send("path", sys.path)
            return
        self.stop()
        raise WorkerDied(f"A worker process did not start, it ended {self.cause()}; see its output above.")

    def send(self, *message: Any) -> None:
        """Sends a message, to nobody if the process is gone."""
        with contextlib.suppress(OSError):  # it died; the next `receive` tells
            self.connection.send(message)

    def receive(self) -> Any:
        """The next message, or None if the process is gone."""
        try:
            return self.connection.recv()
        except (EOFError, OSError):
            return None

    def give_task(self, key: str, recipe: bytes, task: dict[str, Any]) -> None:
        """Tells where a job lies in shared memory, and opens its effect if it is not open yet."""
        if key not in self.effects:
            if len(self.effects) == _CACHED:
                self.send("forget", self.effects.popitem(last=False)[0])
            self._expect(OPENING)
            self.send("open", key, recipe)
        self.effects[key] = None
        self.effects.move_to_end(key)
        self.send("task", task)

    def give(self, n: int) -> None:
        """Asks for the n-th render of the job."""
        self._expect(n)
        self.send("render", n)

    def _expect(self, n: int) -> None:
        if not self.pending:
            self.since = time.monotonic()
        self.pending.append(n)

    def time_left(self, deadline: float) -> float:
        """Seconds until what it does now is late."""
        allowed = START_DEADLINE if self.pending[0] == OPENING else deadline
        return self.since + allowed - time.monotonic()

    def answer(self) -> tuple[int, Any] | None:
        """The number of the render just done and its value or error, or None if the process is gone."""
        reply = self.receive()
        if reply is not None:
            self.pending.popleft()
            self.since = time.monotonic()
        return reply

    def stop(self) -> None:
        """Ends the process now and reaps it."""
        self.connection.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(0.05)  # one that just crashed tells its own cause
        self.process.kill()
        self.process.wait(START_DEADLINE)

    def cause(self) -> str:
        """How the stopped process ended, in words."""
        code = self.process.returncode
        if code >= 0:
            return f"with exit code {code}"
        return f"by {signal.Signals(-code).name}" if -code in set(signal.Signals) else f"by signal {-code}"

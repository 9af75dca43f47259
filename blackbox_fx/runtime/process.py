"""The parent's side of one worker process."""

from __future__ import annotations

import collections
import contextlib
import os
import pickle
import socket
import struct
import subprocess
import sys
import time
import traceback
from multiprocessing.connection import Connection
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from blackbox_fx import errors
from blackbox_fx.core import system
from blackbox_fx.core.system import posix
from blackbox_fx.errors import BlackBoxError, EffectError
from blackbox_fx.isolation import limits
from blackbox_fx.runtime.policy import OPENING, STARTING

START_DEADLINE = 60.0  # seconds, to start a worker and to open an effect
_CACHED = 256  # effects that a worker keeps open


class Answer(NamedTuple):
    """What a worker says of a render, of its own start, or of the opening of an effect.

    Args:
        n: number of the render, or OPENING or STARTING.
        value: an inner product, None if the audio is in shared memory, or the error.
        seconds: that the render took.
        stale: whether the output was silent or dry until the effect was reopened.
    """

    n: int
    value: Any = None
    seconds: float = 0.0
    stale: bool = False


class Reply(NamedTuple):
    """The message of a worker that answers an order.

    Args:
        answers: to its renders, in order. None were made after one that gave NaN, or once the memory had grown.
        effect: its name in the worker.
        grown: whether the worker asks to be recycled, since its memory has grown.
    """

    answers: list[Answer]
    effect: str = ""
    grown: bool = False


def portable(error: BaseException) -> BlackBoxError:
    """The error as one that every process can unpickle, with the worker's traceback as a note."""
    # a subclass that the user made may neither unpickle nor take one text
    kind = next((c for c in type(error).__mro__ if c.__module__ == errors.__name__), EffectError)
    text = str(error) if isinstance(error, BlackBoxError) else f"{type(error).__name__}: {error}"
    portable = kind(text)
    portable.add_note("In the worker:\n" + "".join(traceback.format_exception(error)))
    return portable


@final
class WorkerProcess:
    """A worker process, its socket, and its pending orders: a few renders each, which one message asks for.

    Args:
        shared: descriptor of the shared file.
        memory_mb: megabytes by which its memory may grow.

    Attributes:
        pending: orders it was given, as numbers of renders, the present one first.
        retiring: whether it gets no more renders, because its memory has grown.
        output: the end of what it printed, once it is stopped.
    """

    def __init__(self, shared: int, memory_mb: float) -> None:
        self.folder = limits.make_folder()
        ours, theirs = socket.socketpair()
        # a worker that no longer reads must not hold up the parent, whose deadline then ends it
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(START_DEADLINE), 0))
        with contextlib.ExitStack() as failed, theirs, (self.folder / limits.LOG).open("ab") as output:
            failed.callback(limits.clear, self.folder)
            failed.callback(ours.close)
            command = [sys.executable, "-u", "-P", "-m", "blackbox_fx.runtime.worker"]
            self.process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(shared), str(os.getpid()), str(self.folder), str(memory_mb)],
                pass_fds=(theirs.fileno(), shared),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=limits.environment(self.folder),
            )
            failed.pop_all()
        self.connection = Connection(ours.detach())
        self.effects: collections.OrderedDict[str, None] = collections.OrderedDict()
        self.pending: collections.deque[list[int]] = collections.deque()
        self.retiring = False
        self.output = ""
        self._since = 0.0
        self._task: dict[str, Any] | None = None
        self._began = np.zeros(0)
        self._expect([STARTING])
        self.send("path", limits.search_path())

    def send(self, *message: Any) -> None:
        """Sends a message; ignored if the process is gone."""
        with contextlib.suppress(OSError):  # it died, as the next `reply` reports
            self.connection.send_bytes(pickle.dumps(message))  # `send` takes several times as long

    def give_task(self, key: str, recipe: bytes, task: dict[str, Any], began: NDArray[np.float64]) -> None:
        """Sets the next job, and opens its effect if it is not open yet.

        Args:
            key: the name of the effect in the worker.
            recipe: the effect, pickled.
            task: where the job lies in shared memory.
            began: (n,), in shared memory: the worker writes there when each render begins, on the monotonic clock.
        """
        if key not in self.effects:
            if len(self.effects) == _CACHED:
                self.send("forget", self.effects.popitem(last=False)[0])
            self._expect([OPENING])
            self.send("open", key, recipe)
        self.effects[key] = None
        self.effects.move_to_end(key)
        self._task, self._began = task, began

    def give(self, order: list[int]) -> None:
        """Asks for some renders of the job."""
        self._began[order] = 0.0
        self._expect(order)
        self.send("render", order, self._task)
        self._task = None  # it is sent once

    def _expect(self, order: list[int]) -> None:
        if not self.pending:
            self._since = time.monotonic()
        self.pending.append(order)

    @property
    def present(self) -> int:
        """The render it is at."""
        return next((n for n in reversed(self.pending[0]) if n >= 0 and self._began[n]), self.pending[0][0])

    def time_left(self, deadline: float) -> float:
        """Seconds until the present render exceeds its deadline."""
        n = self.present
        allowed, began = (START_DEADLINE, self._since) if n < 0 else (deadline, self._began[n] or self._since)
        return began + allowed - time.monotonic()

    def reply(self) -> Reply | None:
        """The reply to the first of `pending`; None if the process is gone."""
        try:
            answers, *rest = pickle.loads(self.connection.recv_bytes())
        except (EOFError, OSError):
            return None
        self.pending.popleft()
        self._since = time.monotonic()
        return Reply([Answer(*answer) for answer in answers], *rest)

    def has_ended(self, within: float = 0.0) -> bool:
        """Whether the process ends by itself within a time in seconds. It is not reaped, so its number stays taken."""
        end = time.monotonic() + within
        with contextlib.suppress(ChildProcessError):  # reaped by someone else
            while posix.waitid(posix.P_PID, self.process.pid, posix.WEXITED | posix.WNOWAIT | posix.WNOHANG) is None:
                if time.monotonic() >= end:
                    return False
                time.sleep(0.002)
        return True

    def stop(self, patience: float = 0.0) -> None:
        """Ends the process and all that it started, and reaps it; its output goes to the log.

        Args:
            patience: seconds in which a process that just crashed may end by itself, so that `cause` is the crash.
        """
        self.connection.close()
        if not self.has_ended(patience):
            os.kill(self.process.pid, system.KILL)
            self.has_ended(START_DEADLINE)
        limits.end_all(self.folder, self.process.pid)
        self.process.wait(START_DEADLINE)
        self.output = limits.last_words(self.folder)
        limits.clear(self.folder)

    def cause(self) -> str:
        """How the stopped process ended, in words."""
        code = self.process.returncode
        if code >= 0:
            return f"with exit code {code}"
        return f"by {system.signal_name(-code)}"

"""Measures many effects, a few at once, each in a process of its own, with a log from which it goes on."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

from blackbox_fx.core.progress import Progress


class Surveyed(Protocol):
    """What is known of an effect: a dataclass with its address."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def address(self) -> str:
        """To `load` it."""
        ...


T = TypeVar("T", bound=Surveyed)


def survey(
    addresses: Sequence[str],
    measure: Callable[[str, threading.Event], T],
    kind: type[T],
    log: Path | None,
    progress: Progress,
    at_once: int = 2,
    again: Callable[[T], bool] = lambda _: False,
) -> Iterator[T]:
    """Measures effects; those in the log are not measured again, unless `again` says so.

    Args:
        addresses: of the effects.
        measure: called with an address, in a thread, and with an event that is set when it should stop.
        kind: of what it returns.
        log: file to which one JSON line is added for each effect as it is measured.
        progress: called with effects done, all effects, and the last one's address.
        at_once: effects.
        again: whether what the log has of an effect is to be measured again.
    """
    known = recall(addresses, kind, log, again)
    done = len(known)
    yield from known.values()
    remaining = [address for address in addresses if address not in known]
    executor, stop = ThreadPoolExecutor(at_once), threading.Event()
    try:
        for future in as_completed(executor.submit(measure, address, stop) for address in remaining):
            found = future.result()
            if log:
                with log.open("a") as file:
                    file.write(json.dumps(dataclasses.asdict(found)) + "\n")
            done += 1
            progress(done, len(addresses), found.address)
            yield found
    finally:
        stop.set()
        executor.shutdown(cancel_futures=True)


def recall(
    addresses: Sequence[str], kind: type[T], log: Path | None, again: Callable[[T], bool] = lambda _: False
) -> dict[str, T]:
    """What the log has of these effects, by address, and is not to be measured again."""
    logged = {one.address: one for one in read_log(log, kind)} if log else {}
    return {address: logged[address] for address in addresses if address in logged and not again(logged[address])}


def read_log(log: Path, kind: type[T]) -> list[T]:
    """Reads earlier measurements; damaged lines are ignored."""
    found = []
    for line in log.read_text().splitlines() if log.exists() else ():
        try:
            found.append(kind(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return found

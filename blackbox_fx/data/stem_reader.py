"""Examines and decodes STEM files: `isolation.call` runs this module in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from blackbox_fx import isolation
from blackbox_fx.audio import SAMPLE_RATES, Audio
from blackbox_fx.data.kept import wav, write
from blackbox_fx.data.roles import role_of
from blackbox_fx.data.stems import STREAMS

_LONGEST_S = 3600  # so that each stream fits in a WAV file
_SHORTEST_S = 0.01
_NAMES = 1 << 16  # bytes of what a file says of its stems
_BEAT = 1000  # frames between signs of life


def _box(file: Any, end: int, name: bytes) -> int:
    """Goes to the content of a box of MP4 and gives its end; 0 if it is not there."""
    while file.tell() + 8 <= end:
        start, head = file.tell(), file.read(8)
        size = int.from_bytes(head[:4], "big")
        content = 8
        if size == 1:
            size, content = int.from_bytes(file.read(8), "big"), 16
        size = size or end - start
        if size < content or start + size > end:
            return 0
        if head[4:] == name:
            return start + size
        file.seek(start + size)
    return 0


def _named(path: str) -> list[str]:
    """The names that a file gives to its stems; none if it gives none."""
    with Path(path).open("rb") as file:
        end = file.seek(0, 2)
        file.seek(0)
        for name in (b"moov", b"udta", b"stem"):
            end = _box(file, end, name)
        text = file.read(min(max(end - file.tell(), 0), _NAMES))
    try:
        return [str(stem["name"]) for stem in json.loads(text)["stems"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        return []


def _header(container: Any) -> tuple[int, int, int]:
    """Samples, channels and sample rate of each stream. Raises ValueError unless they are those of MUSDB18."""
    streams = container.streams.audio
    if len(streams) != len(STREAMS):
        raise ValueError(f"it holds {len(streams)} audio streams instead of {len(STREAMS)}: {', '.join(STREAMS)}")
    codecs = {(s.codec_context.name, s.channels) for s in streams}
    if codecs != {("aac", 2)}:
        named = ", ".join(f"{codec} with {channels} channels" for codec, channels in sorted(codecs))
        raise ValueError(f"its streams are {named} instead of stereo AAC")
    frames, rate = _extent(streams)
    return frames, 2, rate


def _extent(streams: Any) -> tuple[int, int]:
    """Samples and sample rate that all streams have. Raises ValueError if they differ, or begin at different times."""
    rates = sorted({s.rate for s in streams})
    if len(rates) > 1 or not SAMPLE_RATES[0] <= rates[0] <= SAMPLE_RATES[1]:
        raise ValueError(f"its streams have the sample rates {rates} Hz instead of one")
    lengths = [round((s.duration or 0) * s.time_base * rates[0]) for s in streams]
    if len(set(lengths)) > 1 or len({s.start_time for s in streams}) > 1:
        raise ValueError(f"its streams have {lengths} samples, and how they belong together is not known")
    if not _SHORTEST_S * rates[0] <= lengths[0] <= _LONGEST_S * rates[0]:
        raise ValueError(f"its streams have {lengths[0]} samples; {_SHORTEST_S:g} to {_LONGEST_S} seconds are allowed")
    return lengths[0], rates[0]


def _check_packets(container: Any, frames: int, rate: int) -> None:
    """Raises ValueError if the packets of a stream do not follow each other up to its end."""
    reached = dict[int, int]()
    for packet in container.demux(*container.streams.audio):
        if packet.pts is None:
            continue
        index = container.streams.audio.index(packet.stream)
        at, ends = (round(t * packet.time_base * rate) for t in (packet.pts, packet.pts + packet.duration))
        if at > max(reached.get(index, 0), 0):
            raise ValueError(f"its stream {index} has a gap after {reached.get(index, 0)} samples")
        reached[index] = ends
    for index in range(len(STREAMS)):
        if reached.get(index, 0) < frames:
            raise ValueError(f"its stream {index} ends after {reached.get(index, 0)} of {frames} samples")


def _inspect(path: str) -> dict[str, Any]:
    """What a file holds. Raises ValueError if it is no STEM file of MUSDB18, or is damaged."""
    for name, expected in zip(_named(path), STREAMS[1:], strict=False):
        role = role_of(name)
        if role != expected and {role, expected} <= set(STREAMS):
            raise ValueError(f"it calls {name!r} what is {expected} in MUSDB18")
    with av.open(path, "r", format="mp4") as container:
        header = _header(container)
        _check_packets(container, header[0], header[2])
    return {"header": header}


def _decoded(path: str, index: int, frames: int, beat: Callable[[], None]) -> Iterator[Audio]:
    """A stream in pieces (2, time), from the sample at which the mix begins, up to its length."""
    with av.open(path, "r", format="mp4") as container:
        stream: Any = container.streams.audio[index]
        stream.codec_context.options = {"err_detect": "explode"}
        done = 0
        for count, frame in enumerate(container.decode(stream)):
            at = round(frame.pts * frame.time_base * frame.sample_rate)
            x = frame.to_ndarray()
            if at != done or frame.format.name != "fltp" or x.shape[0] != 2:
                raise ValueError(f"its stream {index} is damaged after {done} samples")
            done += x.shape[1]
            yield x[:, : max(frames - at, 0)].astype(np.float32, copy=False)
            if count % _BEAT == 0:
                beat()


def _reply(question: dict[str, Any], report: Callable[[Any], None]) -> None:
    if question["what"] == "save":
        path, frames = question["path"], question["frames"]
        with av.open(path, "r", format="mp4") as container:
            _, _, rate = _header(container)
        for index in range(len(STREAMS)):
            blocks = _decoded(path, index, frames, lambda: report(None))
            write(Path(question["folder"]) / wav(index), blocks, rate, frames)
        return
    for path in question["paths"]:
        try:
            report(_inspect(path))
        except (ValueError, OSError, MemoryError, FFmpegError) as error:
            reason = getattr(error, "strerror", None) or str(error) or "it needs too much memory"
            report({"refused": reason})


if __name__ == "__main__":
    isolation.answer(_reply)

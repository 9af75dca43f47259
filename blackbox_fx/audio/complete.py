"""Whether an audio file is complete, by what it says of its own length; libsndfile reads the rest without a word."""

from __future__ import annotations

import struct
from typing import BinaryIO

_NEAR_END = 0x1000  # programs that write into a pipe say 0, or up to so much less than the largest number
_PAGE = 65_307  # bytes of the longest page of Ogg
_PAGE_SAMPLES = 255 * 4096  # at most, of a page; a first one that ends later is cut from within a broadcast
_LONGEST = 2**50  # bytes of a part of a file; where more are said, the header is damaged
_FIRST, _LAST = 2, 4  # the flags of its first and its last page


def missing(file: BinaryIO) -> int:
    """How many bytes a file lacks of what its header promises; 0 if it is complete, or says nothing of its length.

    WAV (with RF64, BW64 and W64), AIFF, 8SVX, CAF and AU are known by the length of their samples, MP3 by the length in
    its first frame, where encoders write one, and Ogg by the mark of its last page, without which one byte or more are
    missing. FLAC is not judged: reading it to the end tells.

    Args:
        file: at its beginning; read here and there, and left anywhere.
    """
    size = file.seek(0, 2)
    file.seek(0)
    head = file.read(40).ljust(40, b"\0")
    if head[:4] in (b"RIFF", b"RF64", b"BW64", b"RIFX", b"FORM"):
        return max(0, _chunks(file, head) - size)
    if head[:4] == b"riff":
        return max(0, _wave64(file) - size)
    if head[:4] == b"caff":
        return max(0, _core_audio(file) - size)
    if head[:3] == b"ID3" or (head[:1] == b"\xff" and head[1:2] >= b"\xe0"):
        return max(0, _mpeg(file, head) - size)
    if head[:4] == b".snd":
        offset, length = struct.unpack(">II", head[4:12])
        return 0 if _is_unknown(length) else max(0, offset + length - size)
    if head[:4] == b"OggS":
        return 0 if _has_last_page(file, size) else 1
    return 0


def _is_unknown(length: int) -> bool:
    """Whether a length stands for one that was not known when the header was written."""
    largest = (2**bits for bits in (31, 32, 63, 64))
    return length == 0 or any(end - _NEAR_END <= length <= end for end in largest)


def vorbis(file: BinaryIO) -> tuple[int, int]:
    """Samples of an Ogg Vorbis file by its last page, and streams that begin in it; zeros for other files.

    Damaged pages are left out by libsndfile, and so are streams behind the first, both without a word.

    Args:
        file: left anywhere.
    """
    file.seek(0)
    content = file.read()
    if content[:4] != b"OggS" or b"\x01vorbis" not in content[:_PAGE]:
        return 0, 0
    streams, ends, at = 0, list[int](), content.find(b"OggS")
    while at >= 0 and len(content) >= at + 14:
        streams += bool(content[at + 5] & _FIRST)
        ends += struct.unpack("<q", content[at + 6 : at + 14])
        at = content.find(b"OggS", at + 27)
    begin = next((end for end in ends if end > 0), 0)
    return ends[-1] - (begin if begin > _PAGE_SAMPLES else 0), streams


def _chunks(file: BinaryIO, head: bytes) -> int:
    """Where the chunk of samples of a WAV, AIFF or 8SVX file ends; 0 if it does not say."""
    order = ">" if head[:4] in (b"RIFX", b"FORM") else "<"
    long = None  # of the samples, where 32 bits are too few
    file.seek(12)
    while len(header := file.read(8)) == 8:
        (length,) = struct.unpack(f"{order}I", header[4:])
        if header[:4] == b"ds64":
            long = struct.unpack("<Q", file.read(16)[8:].ljust(8, b"\0"))[0]
            length = max(0, length - 16)
        if header[:4] in (b"data", b"SSND", b"BODY"):
            length = long if long is not None and length == 0xFFFFFFFF else length
            return 0 if _is_unknown(length) else file.tell() + length
        file.seek(length + length % 2, 1)
    return 0


def _wave64(file: BinaryIO) -> int:
    """Where the samples of a Sony Wave64 file end; 0 if it does not say."""
    file.seek(40)
    while len(header := file.read(24)) == 24:
        (length,) = struct.unpack("<Q", header[16:])
        if header[:4] == b"data":
            return 0 if _is_unknown(length) else file.tell() - 24 + length
        if not 24 <= length < _LONGEST:
            return 0
        file.seek((length + 7) // 8 * 8 - 24, 1)
    return 0


def _core_audio(file: BinaryIO) -> int:
    """Where the samples of a Core Audio file end; 0 if it does not say."""
    file.seek(8)
    while len(header := file.read(12)) == 12:
        (length,) = struct.unpack(">q", header[4:])
        if not 0 <= length < _LONGEST:
            return 0
        if header[:4] == b"data":
            return file.tell() + length
        file.seek(length, 1)
    return 0


def _mpeg(file: BinaryIO, head: bytes) -> int:
    """Where an MP3 ends by what its first frame says of its length; 0 if that says nothing."""
    tag = 0
    if head[:3] == b"ID3":
        tag = 10 + sum(byte << shift for byte, shift in zip(head[6:10], (21, 14, 7, 0), strict=True))
    file.seek(tag)
    frame = file.read(200)
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    if at < 0 or len(frame) < at + 16:
        return 0
    flags, frames, length = struct.unpack(">3I", frame[at + 4 : at + 16])
    if flags & 3 != 3:
        return 0
    return tag + length - 2 * length // max(frames, 1)  # two frames of slack, for encoders count differently


def _has_last_page(file: BinaryIO, size: int) -> bool:
    """Whether the last page of an Ogg file is whole and marked as the last."""
    file.seek(max(0, size - 2 * _PAGE))
    end = file.read()
    start = end.rfind(b"OggS")
    while start >= 0:
        page = end[start:]
        segments = page[26] if len(page) > 26 else 256
        body = 27 + segments + sum(page[27 : 27 + segments])
        if len(page) >= 27 + segments and len(page) >= body:
            return bool(page[5] & _LAST)
        return False
    return False

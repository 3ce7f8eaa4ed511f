"""What the containers of recordings say of their length, read without decoding them.

libsndfile takes a recording for as long as its file happens to be. These functions find out what its header
promised, so that a file that was cut short is not taken for a whole one.
"""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePath
from typing import BinaryIO

#: Suffixes of the containers libsndfile reads.
SUFFIXES = frozenset(
    ".wav .wave .flac .ogg .oga .opus .mp3 .aif .aiff .aifc .au .snd .caf .w64 .rf64 .sph .nist .voc".split()
)
#: Suffixes of recordings that it does not read: they are named when found, never passed over.
FOREIGN_SUFFIXES = frozenset(
    ".m4a .m4b .aac .adts .wma .amr .awb .webm .weba .mp4 .m4v .mov .mkv .mka .avi .flv .wmv .mpg .mpeg .3gp .3g2 "
    ".mp1 .mp2 .ac3 .dts .ra .rm .ape .wv .tta .mpc .spx .shn .alac .dss .raw .pcm".split()
)
#: What macOS leaves beside files on other disks, and in archives (AppleDouble): a file of its own for each of them,
#: with the same suffix and no sound.
APPLE_FOLDER, APPLE_PREFIX = "__MACOSX", "._"
#: Sizes from here on stand for "not known": programs that write into a pipe cannot go back to fill in the size.
OPEN_ENDED = 0x7FFF0000
#: More chunks before the sound are no recording's.
MAX_CHUNKS = 1_000
#: An Ogg page is at most this long, in bytes.
OGG_PAGE = 27 + 255 + 255 * 255
#: Where the first frame of an MPEG file is looked for after its tags, in bytes.
MPEG_JUNK = 65_536
#: Bit rates of MPEG layer III in kbit/s, by version 1, and 2 or 2.5; index 0 is free format, 15 is no frame.
MPEG_KBITS = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
MPEG_RATES = (44_100, 48_000, 32_000)


@dataclass(frozen=True)
class Sound:
    """The chunk of a file that holds its sound.

    Attributes:
        promised: its bytes by the header; None where the header leaves it open.
        there: the bytes from its start to the end of the file.
        size_at: where an unclosed wav file has a size of 0 in spite of the sound that follows, else None.
    """

    promised: int | None
    there: int
    size_at: int | None = None


def is_apple(relative: PurePath) -> bool:
    """Whether a file is one that macOS made beside another.

    >>> is_apple(PurePath("a/._b.wav")), is_apple(PurePath("__MACOSX/a/b.wav"))
    (True, True)
    """
    return relative.name.startswith(APPLE_PREFIX) or APPLE_FOLDER in relative.parts


def sound_of(file: BinaryIO) -> Sound | None:
    """The sound chunk of a wav, RF64, W64, AIFF, AU, CAF, VOC or NIST file; None for others, or where none is found.

    Args:
        file: open for reading; its position is moved.
    """
    file.seek(0)
    head = file.read(1_024)
    size = os.fstat(file.fileno()).st_size
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"FORM") and head[8:12] in (b"WAVE", b"AIFF", b"AIFC"):
        return _sound_of_chunks(file, head, size)
    if head[:4] == b"riff" and len(head) > 40:
        for name, start, length in _chunks(file, 40, struct.Struct("<16sQ"), 8, inclusive=True):
            if name[:4] == b"data":
                return Sound(length, size - start)
    if head[:4] == b"caff":
        for name, start, length in _chunks(file, 8, struct.Struct(">4sQ"), 1):
            if name == b"data":
                return Sound(length if length < 2**63 else None, size - start)
    if head[:4] == b".snd" and len(head) >= 12:
        start, length = struct.unpack(">II", head[4:12])
        return Sound(length if length < OPEN_ENDED else None, size - start)
    if head.startswith(b"Creative Voice File") and head[26:27] in (b"\x01", b"\x09"):
        return Sound(int.from_bytes(head[27:30], "little"), size - 30)
    if head.startswith(b"NIST_1A"):
        numbers = {name: int(value) for name, value in re.findall(rb"(\w+) -i (\d{1,12})\s", head)}
        values = [numbers.get(name) for name in (b"sample_count", b"channel_count", b"sample_n_bytes")]
        head_size = head[8:16].strip()
        if head_size.isdigit() and None not in values:
            return Sound(math.prod(value or 0 for value in values), size - int(head_size))
    return None


def _sound_of_chunks(file: BinaryIO, head: bytes, size: int) -> Sound | None:
    order = ">" if head[:4] in (b"RIFX", b"FORM") else "<"
    whole = struct.unpack(f"{order}I", head[4:8])[0]
    long = None
    for name, start, length in _chunks(file, 12, struct.Struct(f"{order}4sI"), 2):
        if name == b"ds64":
            file.seek(start + 8)
            long = int.from_bytes(file.read(8), "little")
        if name in (b"data", b"SSND"):
            there = size - start
            if name == b"data" and length == 0 and there > 0 and whole != size - 8:
                # Never closed: the size of the file is wrong as well. An empty recording with chunks after it is whole.
                return Sound(None, there, start - 4)
            if length >= OPEN_ENDED:
                return Sound(long, there)
            return Sound(length, there)
    return None


def _chunks(
    file: BinaryIO, position: int, head: struct.Struct, align: int, *, inclusive: bool = False
) -> Iterator[tuple[bytes, int, int]]:
    """Name, start of the content, and length of each chunk; ``inclusive`` where lengths count the chunk's head."""
    for _ in range(MAX_CHUNKS):
        file.seek(position)
        found = file.read(head.size)
        if len(found) < head.size:
            return
        name, length = head.unpack(found)
        length = max(0, length - head.size) if inclusive else length
        yield name, position + head.size, length
        position += head.size + length + -length % align


def ends_within_ogg_page(file: BinaryIO) -> bool:
    """Whether an Ogg file stops before its last page does. A stream that no page ends was recorded that way."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 2 * OGG_PAGE))
    tail = file.read()
    page = tail[max(0, tail.rfind(b"OggS")) :]
    if len(page) < 27 or len(page) < 27 + page[26]:
        return True
    return len(page) < 27 + page[26] + sum(page[27 : 27 + page[26]])


@dataclass(frozen=True)
class MpegFrames:
    """The frames of an MPEG layer III file, counted one by one.

    Attributes:
        samples: of all frames, a channel; frame_samples: of one of them.
        tagged: whether the first frame tells the length, as Xing, LAME and VBRI do. Where none does, libsndfile
            guesses it from the first frame's bit rate.
    """

    samples: int
    frame_samples: int
    tagged: bool


def mpeg_frames(file: BinaryIO) -> MpegFrames | None:
    """Counts the frames of an MPEG file up to the first that is none; None where no two follow each other.

    Args:
        file: open for reading; its position is moved.
    """
    position = 0
    file.seek(0)
    while (tag := file.read(10))[:3] == b"ID3" and len(tag) == 10:
        # Lengths of tags are written in 7 bits a byte.
        position += 10 + sum((byte & 127) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
        position += 10 if tag[5] & 16 else 0
        file.seek(position)
    file.seek(position)
    junk = file.read(MPEG_JUNK)
    for start in (match.start() for match in re.finditer(rb"\xff", junk)):
        first = _mpeg_frame(junk[start : start + 4])
        if first and _mpeg_frame(junk[start + first[0] : start + first[0] + 4]):
            break
    else:
        return None
    opening = junk[start : start + first[0]]
    tagged = any(name in opening for name in (b"Xing", b"Info", b"VBRI"))
    samples = -first[1] if tagged else 0
    position += start
    file.seek(position)
    while frame := _mpeg_frame(file.read(4)):
        samples += frame[1]
        position += frame[0]
        file.seek(position)
    return MpegFrames(samples, first[1], tagged)


def _mpeg_frame(head: bytes) -> tuple[int, int] | None:
    """Bytes and samples of the layer III frame that begins so; None where none does."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
        return None
    version, kbits, rate = head[1] >> 3 & 3, head[2] >> 4, head[2] >> 2 & 3
    if version == 1 or kbits in (0, 15) or rate == 3:
        return None
    first = version == 3
    hertz = MPEG_RATES[rate] // {3: 1, 2: 2, 0: 4}[version]
    length = (144 if first else 72) * MPEG_KBITS[first][kbits] * 1_000 // hertz + (head[2] >> 1 & 1)
    return length, 1_152 if first else 576

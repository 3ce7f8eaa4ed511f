"""The part of an HDF5 file that HDF5 itself writes, kept in memory.

On a full disk HDF5 cannot close a file: h5py raises errors of several kinds, keeps the deleted file open, and may
crash. So HDF5 never writes to the disk; what it would have written is handed to whoever writes the file.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

#: Bytes a piece of the image holds.
PIECE_BYTES = 4096


class Image(io.RawIOBase):
    """A file of any size, of which memory holds what was written.

    Attributes:
        size: bytes, with what was never written.
    """

    def __init__(self) -> None:
        self.size = 0
        self._place = 0
        self._pieces: dict[int, np.ndarray] = {}

    def written(self) -> Iterator[tuple[int, np.ndarray]]:
        """Places in the file, in order, and the bytes that belong there; unwritten ones within a piece are zero."""
        for number in sorted(self._pieces):
            place = number * PIECE_BYTES
            yield place, self._pieces[number][: max(0, self.size - place)]

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self._place = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self.size}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: Any, /) -> int:
        target = np.frombuffer(buffer, dtype=np.uint8)
        for part, number, inside in self._parts(len(target)):
            target[part] = self._pieces[number][inside] if number in self._pieces else 0
        self._place += len(target)
        return len(target)

    def write(self, buffer: Any, /) -> int:
        source = np.frombuffer(buffer, dtype=np.uint8)
        for part, number, inside in self._parts(len(source)):
            if number not in self._pieces:
                self._pieces[number] = np.zeros(PIECE_BYTES, dtype=np.uint8)
            self._pieces[number][inside] = source[part]
        self._place += len(source)
        if len(source):
            self.size = max(self.size, self._place)
        return len(source)

    def truncate(self, size: int | None = None, /) -> int:
        self.size = self._place if size is None else size
        return self.size

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def _parts(self, count: int) -> Iterator[tuple[slice, int, slice]]:
        """``count`` bytes from the place on: where they lie in a buffer, the piece, and where in it."""
        done = 0
        while done < count:
            number, first = divmod(self._place + done, PIECE_BYTES)
            length = min(PIECE_BYTES - first, count - done)
            yield slice(done, done + length), number, slice(first, first + length)
            done += length

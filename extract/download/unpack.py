"""Unpacks zip, tar, 7z and rar archives, none of which is trusted: see :mod:`extract.download.destination`.

What kind an archive is stands in its first bytes. Links, devices and passwords are refused, by name.
"""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import py7zr
import rarfile

from extract.download.destination import BLOCK, Destination, Limits
from extract.download.kinds import opened
from mser.errors import CorpusError, MserError

#: Told the files that are unpacked so far.
Advance = Callable[[int], None]

#: The longest header of a tar archive that is read into memory.
TAR_HEADER = 2**24


def unpack(archive: Path, kind: str, folder: Path, limits: Limits, advance: Advance = lambda files: None) -> list[str]:
    """Unpacks an archive into a folder that is new; gives the archives that were within it, which stay as they are.

    Raises:
        CorpusError: it is damaged, hostile, encrypted, or needs a program that is not there.
        DiskError: the disk cannot hold it.
    """
    folder.mkdir(parents=True)
    to = Destination(folder, archive, limits)
    try:
        KINDS[kind](archive, to, advance)
    except MserError:
        raise
    except rarfile.RarCannotExec as error:
        raise CorpusError(
            "A rar archive needs a program to unpack it, and none was found.",
            file=archive,
            expected="one of unrar, unar, 7z or bsdtar among the programs",
            hint="install one, such as the system's package unrar, unar or p7zip; then run the same command again",
        ) from error
    except Exception as error:  # Of damaged archives the libraries raise errors of any kind.
        to.refuse(None, f"a damaged archive ({type(error).__name__}: {error})", f"a whole {kind} archive")
    if not to.files:
        to.refuse(None, "an archive without a file")
    return to.nested


def _unzip(archive: Path, to: Destination, advance: Advance) -> None:
    with zipfile.ZipFile(archive) as file:
        for entry in file.infolist():
            name = _zip_name(entry)
            if "\0" in entry.orig_filename:
                to.refuse(entry.orig_filename, "a name with control characters")
            if entry.flag_bits & 1:
                to.refuse(name, "a file with a password")
            _require_plain(to, name, stat.S_IFMT(entry.external_attr >> 16))
            if entry.is_dir():
                to.add_folder(name)
                continue
            with file.open(entry) as source:
                to.add(name, source, entry.file_size)
            advance(to.files)


def _zip_name(entry: zipfile.ZipInfo) -> str:
    """Names without the flag for UTF-8 are UTF-8 in most archives all the same; others hold lone surrogates then."""
    if entry.flag_bits & 0x800:
        return entry.filename
    try:
        return entry.filename.encode("cp437").decode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return entry.filename  # the name was read from the entry's field for Unicode


def _require_plain(to: Destination, name: str, mode: int) -> None:
    """Refuses what is neither file nor folder; many archives leave the mode at 0."""
    if stat.S_ISLNK(mode):
        to.refuse(name, "a link", "files and folders alone")
    if mode and not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        to.refuse(name, "a device, pipe or socket", "files and folders alone")


class _Inside(io.RawIOBase):
    """The bytes behind a compression, read forwards; as many as are allowed, and no long headers at once."""

    def __init__(self, file: IO[bytes], to: Destination | None = None) -> None:
        self._file, self._to = file, to
        self.last = b""

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= TAR_HEADER:
            raise ValueError(f"a header of {size} bytes")
        self.last = self._file.read(size)
        self._look()
        return self.last

    def readinto(self, buffer: Any, /) -> int:
        found = self.read(len(buffer))
        buffer[: len(found)] = found
        return len(found)

    def seek(self, position: int, whence: int = 0, /) -> int:
        # Step by step: what is passed over is unpacked, too.
        while whence == 0 and position - self._file.tell() > BLOCK and self._file.read(BLOCK):
            self._look()
        return self._file.seek(position, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def _look(self) -> None:
        # Headers and padding come on top of what is written.
        if self._to is not None and self._file.tell() > 2 * self._to.limits.bytes + TAR_HEADER:
            self._to.refuse(None, "more than is allowed to be unpacked", f"at most {self._to.limits.bytes} bytes")


def _untar(archive: Path, to: Destination, advance: Advance) -> None:
    with opened(archive) as file:
        inside = _Inside(file, to)
        with tarfile.open(fileobj=inside, mode="r:", errorlevel=2) as tar:
            for entry in tar:
                if entry.issym() or entry.islnk():
                    to.refuse(entry.name, "a link", "files and folders alone")
                if entry.isdir():
                    to.add_folder(entry.name)
                    continue
                if not entry.isreg():
                    to.refuse(entry.name, "a device, pipe or socket", "files and folders alone")
                to.judged(entry.name)
                if hasattr(tarfile, "data_filter"):  # not in the first releases of 3.11
                    tarfile.data_filter(entry, str(to.folder))
                source = tar.extractfile(entry)
                assert source is not None  # it is regular
                to.add(entry.name, source, entry.size)
                advance(to.files)
        # tarfile takes a damaged header, and the end of the file, for the end of the archive.
        if inside.last.strip(b"\0") or not inside.last:
            to.refuse(None, "an archive that is cut off or damaged behind its last file", "a whole tar archive")


class _Factory(py7zr.WriterFactory):
    """Hands py7zr a file of the destination for each name."""

    def __init__(self, to: Destination, base: Path, sizes: dict[str, int], advance: Advance) -> None:
        self._to, self._base, self._sizes, self._advance = to, base, sizes, advance

    def create(self, filename: str) -> py7zr.Py7zIO:
        self._advance(self._to.files)
        return _Sink(self._to, Path(filename).relative_to(self._base).as_posix(), self._sizes[filename])


class _Sink(py7zr.Py7zIO):
    """A file of the destination that py7zr writes to, and does not read again."""

    def __init__(self, to: Destination, name: str, size: int) -> None:
        self._writer, self._to, self._name, self._size = to.writer(name, size), to, name, size

    def write(self, block: bytes | bytearray) -> int:
        return self._writer.write(block)

    def close(self) -> None:
        self._writer.close()
        if self._writer.written != self._size:
            self._to.refuse(self._name, f"{self._writer.written} bytes", f"{self._size} bytes, as the archive says")

    def seekable(self) -> bool:
        return False

    def read(self, size: int | None = None) -> bytes:
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0

    def flush(self) -> None:
        pass

    def size(self) -> int:
        return self._writer.written


def _un7z(archive: Path, to: Destination, advance: Advance) -> None:
    base = to.folder.resolve()
    # Of an open file one thread reads, so that errors come from here.
    with archive.open("rb") as raw, py7zr.SevenZipFile(raw, max_extract_size=to.limits.bytes) as file:
        if file.needs_password():
            to.refuse(None, "an archive with a password")
        sizes: dict[str, int] = {}
        for entry in file.files:
            name = str(entry.filename)
            if entry.is_symlink or entry.is_junction:
                to.refuse(name, "a link", "files and folders alone")
            _require_plain(to, name, entry.st_fmt or 0)
            if entry.is_directory:
                to.add_folder(name)
                continue
            key = str(base / to.judged(name))
            if key in sizes:
                to.refuse(name, "a name that is there twice")
            sizes[key] = entry.uncompressed
        # py7zr gives names below the path that it is given, and writes nothing there itself.
        file.extractall(path=base, factory=_Factory(to, base, sizes, advance))
        if to.files != len(sizes):
            to.refuse(None, f"{to.files} files", f"{len(sizes)} files, as the archive says")


def _unrar(archive: Path, to: Destination, advance: Advance) -> None:
    with rarfile.RarFile(archive) as file:
        if file.needs_password():
            to.refuse(None, "an archive with a password")
        if len(file.volumelist()) > 1:
            to.refuse(None, "one of several parts", "an archive in one file")
        for entry in file.infolist():
            name = entry.filename
            if entry.is_symlink() or entry.file_redir:
                to.refuse(name, "a link", "files and folders alone")
            if entry.host_os == rarfile.RAR_OS_UNIX:
                _require_plain(to, name, stat.S_IFMT(entry.mode))
            if entry.is_dir():
                to.add_folder(name)
                continue
            with file.open(entry) as source:
                to.add(name, source, entry.file_size)
            advance(to.files)


KINDS: dict[str, Callable[[Path, Destination, Advance], None]] = {
    "zip": _unzip,
    "tar": _untar,
    "7z": _un7z,
    "rar": _unrar,
}

"""Where the entries of an archive are written: every name is judged, every byte and entry is counted.

An archive is a stranger's: what it says of its names and sizes is not believed.
"""

from __future__ import annotations

import re
import shutil
import unicodedata
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, NoReturn

from mser.errors import CorpusError, DiskError

#: Unpacked bytes that are always allowed, and how many times the archive's own beyond that.
ALLOWED_BYTES, ALLOWED_RATIO = 2**30, 20
ALLOWED_ENTRIES = 1_000_000
#: Bytes of a path. Longer ones, of thousands of folders, would fill the memory, and no system takes them.
LONGEST_PATH = 1024
#: Letters of a name that are told.
SHOWN = 300
#: Bytes that are unpacked at a time.
BLOCK = 2**20
#: What is an archive within an archive, as far as its name says.
ARCHIVES = (".zip", ".tar", ".tgz", ".tbz2", ".txz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")


@dataclass(frozen=True)
class Limits:
    """What may be unpacked.

    Attributes:
        bytes: in all. entries: files and folders. free: bytes that the disk has.
    """

    bytes: int
    entries: int
    free: int

    @classmethod
    def of(cls, archive: Path, folder: Path) -> Limits:
        """Those of an archive that is unpacked below a folder."""
        allowed = max(ALLOWED_RATIO * archive.stat().st_size, ALLOWED_BYTES)
        return cls(allowed, ALLOWED_ENTRIES, shutil.disk_usage(folder).free)


class Writer:
    """A file of an archive that is being written; everything is counted."""

    def __init__(self, destination: Destination, name: str, file: IO[bytes]) -> None:
        self._destination, self._name, self._file = destination, name, file
        self.written = 0

    def write(self, block: bytes | bytearray | memoryview) -> int:
        """Writes a block; raises as :meth:`Destination.add`."""
        self._destination.count(self._name, len(block))
        try:
            self._file.write(block)
        except OSError as error:
            self._destination.cannot_write(self._name, error)
        self.written += len(block)
        return len(block)

    def close(self) -> None:
        try:
            self._file.close()
        except OSError as error:
            self._destination.cannot_write(self._name, error)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class Destination:
    """A new folder that an archive is unpacked into.

    Attributes:
        files, bytes: written so far. nested: archives among the files, which are left as they are.
    """

    def __init__(self, folder: Path, archive: Path, limits: Limits) -> None:
        self.folder, self.archive, self.limits = folder, archive, limits
        self.files = self.bytes = 0
        self.nested: list[str] = []
        self._entries = 0
        # name without case -> as it is spelled, and whether it is a file
        self._names: dict[str, tuple[str, bool]] = {}

    def refuse(self, entry: str | None, fault: str, expected: str | None = None) -> NoReturn:
        """Raises CorpusError that names the archive, the entry and its fault."""
        raise CorpusError(
            "An archive is not unpacked.",
            file=self.archive,
            field=None if entry is None else _shown(entry),
            expected=expected,
            found=fault,
            hint="nothing of it was kept; look into the archive, and unpack by hand what is to be trusted",
        )

    def add_folder(self, name: str) -> None:
        """Makes a folder.

        Raises:
            CorpusError: its name leads out or is taken, or there are too many entries.
        """
        path = self._path_of(name, is_file=False)
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            self.cannot_write(name, error)

    def add(self, name: str, source: IO[bytes], size: int) -> None:
        """Writes a file of so many bytes, as the archive says.

        Raises:
            CorpusError: as add_folder; or it has another size, or there are too many bytes in all.
            DiskError: it cannot be written.
        """
        with self.writer(name, size) as writer:
            while block := source.read(BLOCK):
                writer.write(block)
        if writer.written != size:
            self.refuse(name, f"{writer.written} bytes", f"{size} bytes, as the archive says")

    def writer(self, name: str, size: int) -> Writer:
        """A file to be written piece by piece; raises as add."""
        path = self._path_of(name, is_file=True)
        self.count(name, size, declared=True)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # A file that is there is never opened, nor is what a link leads to.
            file = path.open("xb")
        except OSError as error:
            self.cannot_write(name, error)
        self.files += 1
        if name.lower().endswith(ARCHIVES):
            self.nested.append(name)
        return Writer(self, name, file)

    def count(self, name: str, size: int, declared: bool = False) -> None:
        """Counts bytes, or looks whether those that are declared would be too many.

        Raises:
            CorpusError: there are too many. DiskError: the disk cannot hold them.
        """
        total = self.bytes + size
        if total > self.limits.bytes:
            self.refuse(name, f"{total} bytes unpacked, and perhaps more", f"at most {self.limits.bytes} bytes")
        if total > self.limits.free:
            raise DiskError(
                "The disk is too small for what an archive holds.",
                file=self.archive,
                expected=f"{total} bytes free, and perhaps more",
                found=f"{self.limits.free} bytes free",
                hint="free some, or set MSER_CORPORA to a folder on another disk; then run the same command again",
            )
        self.bytes += 0 if declared else size

    def _path_of(self, name: str, is_file: bool) -> Path:
        self._entries += 1
        relative = self.judged(name)
        if is_file and not relative.parts:
            self.refuse(name, "a file without a name")
        for depth in range(1, len(relative.parts) + 1):
            spelled = "/".join(relative.parts[:depth])
            self._claim(name, spelled, is_file and depth == len(relative.parts))
        if max(self._entries, len(self._names)) > self.limits.entries:
            self.refuse(name, "more entries", f"at most {self.limits.entries} entries")
        return self.folder / relative

    def _claim(self, name: str, spelled: str, is_file: bool) -> None:
        """Two names that one file system or another takes for the same would overwrite each other there."""
        key = unicodedata.normalize("NFC", spelled).lower()
        if key not in self._names:
            self._names[key] = (spelled, is_file)
            return
        known, was_file = self._names[key]
        if known != spelled:
            self.refuse(name, f"a name like {known!r} but for upper and lower case or the form of accents")
        if was_file or is_file:
            self.refuse(name, "a name that is there twice" if was_file and is_file else "both a file and a folder")

    def judged(self, name: str) -> PurePosixPath:
        """The name as a path below the folder.

        Raises:
            CorpusError: it leads out, or is no name everywhere.
        """
        if len(name.encode("utf-8", "surrogatepass")) > LONGEST_PATH:
            self.refuse(name, f"a path of more than {LONGEST_PATH} bytes")
        parts = [part for part in name.split("/") if part not in ("", ".")]
        try:
            too_long = any(len(part.encode()) > 255 for part in parts)
        except UnicodeEncodeError:
            self.refuse(name, "a name that is not UTF-8", "names in UTF-8")
        faults = {
            "a name that is not UTF-8": "\ufffd" in name,
            "a name with control characters": any(unicodedata.category(letter) == "Cc" for letter in name),
            "a backslash in its name": "\\" in name,
            "an absolute path": name.startswith("/"),
            "a drive letter": re.match(r"[A-Za-z]:", name) is not None,
            "a path that leads out": ".." in parts,
            "a name of more than 255 bytes": too_long,
        }
        for fault, there in faults.items():
            if there:
                self.refuse(name, fault, "a path below the archive's own folder")
        return PurePosixPath(*parts)

    def cannot_write(self, name: str, error: OSError) -> NoReturn:
        """Raises DiskError for a file or folder that the disk does not take."""
        raise DiskError(
            "A file of an archive cannot be written.",
            file=self.folder,
            field=_shown(name),
            found=error.strerror,
            hint="free the disk, or set MSER_CORPORA to another folder; then run the same command again",
        ) from error


def _shown(name: str) -> str:
    return repr(name if len(name) <= SHOWN else f"{name[:SHOWN]}...")

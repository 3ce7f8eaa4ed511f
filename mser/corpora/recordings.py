"""Lists the files of a corpus folder that are, or might be taken for, recordings."""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mser.containers import APPLE_FOLDER, APPLE_PREFIX, FOREIGN_SUFFIXES, SUFFIXES, is_apple

LISTED = SUFFIXES | FOREIGN_SUFFIXES


@dataclass(frozen=True)
class Candidate:
    """A file, folder or link that is to be used or to be rejected.

    Attributes:
        relative: below the corpus folder.
        fault: why it cannot be used, as far as that is known without opening it; empty otherwise.
    """

    path: Path
    relative: PurePosixPath
    fault: str

    @property
    def printable(self) -> str:
        """The relative path; bytes of it that are not UTF-8 as ``\\xff``."""
        return os.fsencode(str(self.relative)).decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Listing:
    """What lies below a corpus folder.

    Attributes:
        files: all that could be a recording, sorted by path.
        apple: files of macOS that are called like recordings and are none; not among ``files``.
    """

    files: tuple[Candidate, ...]
    apple: int = 0

    @property
    def remark(self) -> str:
        """The line on what is not listed; empty where there is nothing."""
        if not self.apple:
            return ""
        names = f"{APPLE_PREFIX}*, {APPLE_FOLDER}"
        return f"{self.apple} files of macOS ({names}) are called like recordings, and are left out"


def candidates(folder: Path) -> list[Candidate]:
    """Everything below a corpus folder that could be a recording, sorted by path."""
    return list(listing(folder).files)


def listing(folder: Path) -> Listing:
    """What lies below a corpus folder.

    Links to folders are not followed, so that no recording is listed twice and no walk is endless.
    """
    found = {}
    root = os.path.realpath(folder)

    def unreadable(error: OSError) -> None:
        found[Path(error.filename)] = f"the folder cannot be read: {error.strerror}"

    for place, folders, files in os.walk(folder, onerror=unreadable):
        for path in (Path(place, name) for name in folders):
            if path.is_symlink() or path.suffix.lower() in SUFFIXES:
                found[path] = _fault(path, root)
        for path in (Path(place, name) for name in files):
            if path.suffix.lower() in LISTED:
                found[path] = _fault(path, root)
    places = {path: PurePosixPath(path.relative_to(folder).as_posix()) for path in sorted(found)}
    listed = tuple(Candidate(path, place, found[path]) for path, place in places.items() if not is_apple(place))
    return Listing(listed, len(found) - len(listed))


def _fault(path: Path, root: str) -> str:
    """Why a path cannot be a recording; empty if it may be one."""
    try:
        str(path).encode()
        target = os.path.realpath(path, strict=True) if path.is_symlink() else str(path)
        mode = os.stat(target).st_mode
    except UnicodeEncodeError:
        return "its name is not UTF-8; rename it"
    except OSError as error:
        links = {errno.ENOENT: "is a link to a file that does not exist", errno.ELOOP: "is a link that leads to itself"}
        return links.get(error.errno or 0, f"cannot be read: {error.strerror}")
    if path.is_symlink() and not Path(target).is_relative_to(root):
        return "is a link that leads out of the corpus folder"
    if stat.S_ISDIR(mode):
        return "is a link to a folder, which is not followed" if path.is_symlink() else "is a folder, not a recording"
    if not stat.S_ISREG(mode):
        return "is no regular file"
    suffix = path.suffix.lower()
    return f"is {suffix}, which cannot be decoded; convert it to flac" if suffix in FOREIGN_SUFFIXES else ""

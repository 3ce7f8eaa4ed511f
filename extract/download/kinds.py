"""What kind of archive a file is: by its first bytes, and not by its name alone."""

from __future__ import annotations

import bz2
import gzip
import lzma
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from mser.errors import CorpusError

#: What a file begins with. Only in tars is it looked for behind a compression, too.
SIGNATURES = {
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",
    b"PK\x07\x08": "zip",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
}
#: Zip archives that are meant as one file.
DOCUMENTS = (".xlsx", ".docx", ".pptx", ".ods", ".odt", ".npz")
TARS = (".tar", ".tgz", ".tbz2", ".txz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tar.zst")


def kind_of(path: Path, name: str) -> str | None:
    """zip, tar, 7z or rar by the first bytes; None for a file that is to be placed as it is.

    Args:
        name: of the file, which may promise an archive.

    Raises:
        CorpusError: the name promises one, and it is none.
    """
    with path.open("rb") as file:
        head = file.read(512)
    kind = next((kind for begin, kind in SIGNATURES.items() if head.startswith(begin)), None)
    if kind is None and (_is_tar(path) or (name.lower().endswith(TARS) and _opener(head) is not None)):
        kind = "tar"
    if kind is None and name.lower().endswith((".zip", ".7z", ".rar", *TARS)):
        page = head.lstrip().lower().startswith((b"<!doctype html", b"<html"))
        raise CorpusError(
            "A file is no archive, though its name says so.",
            file=path,
            expected="zip, tar (.gz, .bz2, .xz, .zst), 7z or rar",
            found="an HTML page" if page else f"a file that begins with {head[:16]!r}",
            hint="the link or the definition is wrong; get the corpus by hand",
        )
    return None if name.lower().endswith(DOCUMENTS) else kind


def _opener(head: bytes) -> Callable[[Path], Any] | None:
    """What opens a compressed file that begins so."""
    if head.startswith(b"\x1f\x8b"):
        return gzip.open
    if head.startswith(b"BZh"):
        return bz2.open
    if head.startswith(b"\xfd7zXZ\0"):
        return lzma.open
    return _open_zstd if head.startswith(b"\x28\xb5\x2f\xfd") else None


def _open_zstd(path: Path) -> Any:
    try:
        from backports import zstd  # comes with py7zr
    except ImportError as error:
        raise CorpusError(
            "This Python cannot unpack zstd.",
            file=path,
            expected="a .tar.zst that zstd unpacked to .tar",
            hint="install the Python package backports.zstd, or unpack by hand",
        ) from error
    return zstd.open(path)


def opened(path: Path) -> IO[bytes]:
    """The file, or what is behind its compression."""
    with path.open("rb") as file:
        opener = _opener(file.read(8))
    return opener(path) if opener else path.open("rb")


def _is_tar(path: Path) -> bool:
    """Whether the first block, behind a compression or not, is the header of a tar archive."""
    try:
        with opened(path) as file:
            tarfile.TarInfo.frombuf(file.read(tarfile.BLOCKSIZE), "utf-8", "surrogateescape")
    except Exception:  # Anything may lie there.
        return False
    return True

"""Puts what was got into a corpus's folder, whole or not at all, and never over a file of the user's."""

from __future__ import annotations

import contextlib
import filecmp
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from extract.download.destination import Limits
from extract.download.kinds import kind_of
from extract.download.partial import Remote
from extract.download.unpack import Advance, unpack
from extract.download.wanted import Record, Wanted
from mser.config import is_name, read_if_whole, write_json
from mser.corpora.fields import CHECKSUMS
from mser.errors import CorpusError, DiskError, StoreError
from mser.store.lock import locked

#: In the corpus folder: what was downloaded into it. No recording, so manifests do not see it.
MARKER = ".mser-download.json"
SCHEMA = 1


@contextmanager
def alone(downloads: Path) -> Iterator[None]:
    """Holds the lock of a corpus folder's downloads.

    Raises:
        CorpusError: another process holds it. DiskError: nothing can be written there.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(locked(downloads))
        except DiskError as error:
            raise DiskError(
                "The folder of the corpora cannot be written to.",
                file=downloads,
                found=error.found,
                hint="set MSER_CORPORA to a folder that can, on a file system with hard links",
            ) from error
        except StoreError as error:
            raise CorpusError(
                "Another process is downloading this corpus.",
                file=downloads,
                found=error.found,
                hint="wait for it to end, or stop it; then run the same command again",
            ) from error
        yield


def there(folder: Path, wanted: Sequence[Wanted]) -> list[Wanted]:
    """Which of the files were downloaded into a corpus folder before.

    Raises:
        CorpusError: the folder holds files and was not made here, or holds another version of one of these.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return []
    entries = _entries(folder)
    if entries is None:
        raise CorpusError(
            "A corpus folder is there already, and was not downloaded.",
            file=folder,
            expected="no such folder, an empty one, or one that `make download` made",
            found=f"files and no {MARKER}",
            hint="if it is complete, go on with `make manifest`; otherwise move it away and run the same command again",
        )
    known = {(entry.get("url"), entry.get("into", "")): entry for entry in entries}
    found = [one for one in wanted if (one.remote.url, one.into) in known]
    for one in found:
        entry = known[one.remote.url, one.into]
        if any(entry.get(name, digits) != digits for name, digits in one.remote.checksums.items()):
            raise CorpusError(
                "A corpus folder holds another version of a download.",
                file=folder / MARKER,
                field=one.remote.url,
                expected=one.remote,
                found=", ".join(f"{name} {entry[name]}" for name in one.remote.checksums if name in entry),
                hint="move the folder away and run the same command again; its manifest and stores must be made anew",
            )
    return found


def there_of_record(folder: Path, record: Record) -> list[Wanted] | None:
    """The files of a record that were downloaded into a corpus folder; None where one of them may be missing.

    All that a definition wants is placed at once, so what its names and patterns chose then is all of it.
    """
    origins = {record.origin(name) for name in record.files}
    entries = [
        entry
        for entry in _entries(folder) or []
        if entry.get("record") in origins and entry.get("into", "") == record.into
    ]
    if {entry["record"] for entry in entries} != origins:
        return None
    found = []
    for entry in entries:
        url, size, name = entry.get("url"), entry.get("bytes"), entry.get("name")
        if not isinstance(url, str) or not isinstance(size, int) or not is_name(name):
            return None
        checksums = {kind: str(entry[kind]) for kind in CHECKSUMS if kind in entry}
        found.append(Wanted(Remote(url, size, checksums), str(name), record.into, entry["record"]))
    return found


def _entries(folder: Path) -> list[dict[str, Any]] | None:
    """What the marker lists; None where there is none that can be read."""
    if not folder.is_dir():
        return None
    marker = read_if_whole(folder / MARKER, ["schema", "downloads"])
    listed = marker["downloads"] if marker and marker["schema"] == SCHEMA else None
    return listed if isinstance(listed, list) and all(isinstance(one, dict) for one in listed) else None


def put(
    folder: Path,
    files: Sequence[tuple[Wanted, Path]],
    about: Mapping[str, Mapping[str, str]],
    advance: Advance = lambda files: None,
) -> list[str]:
    """Unpacks or copies downloaded files into a corpus folder; gives the archives that are left in it as they are.

    Everything is put together beside the folder. A folder that is not there yet appears at once; one that is, and was
    made here, gets what it lacks. The lock of :func:`alone` is held meanwhile.

    Args:
        files: each with the path of its verified download.
        about: of each corpus what the marker is to say.

    Raises:
        CorpusError: an archive is not to be unpacked, or a file would replace another.
        DiskError: the disk cannot hold it.
    """
    folder = folder.resolve()  # it may be a link to another disk
    for left in folder.parent.iterdir():
        if re.fullmatch(rf"{re.escape(folder.name)}\.partial-\d+", left.name):
            shutil.rmtree(left)  # of a process that was killed
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    nested: list[str] = []
    try:
        whole = partial / "whole"
        whole.mkdir(parents=True)
        for number, (one, path) in enumerate(files):
            kind = kind_of(path, one.name)
            source = partial / str(number)
            if kind is None:
                source.mkdir()
                shutil.copyfile(path, source / one.name)
            else:
                inside = unpack(path, kind, source, Limits.of(path, partial), advance)
                nested += [f"{one.into}/{name}".lstrip("/") for name in inside]
            merge(source, whole / one.into)
        _place(whole, folder, [one for one, _ in files], about)
    except OSError as error:
        raise DiskError(
            "A corpus folder cannot be written.",
            file=folder,
            found=error.strerror,
            hint="free the disk, or set MSER_CORPORA to another folder; then run the same command again",
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return nested


def _place(whole: Path, folder: Path, new: Iterable[Wanted], about: Mapping[str, Mapping[str, str]]) -> None:
    before = _entries(folder) if folder.exists() else None
    corpora = (read_if_whole(folder / MARKER) or {}).get("corpora", {}) if before else {}
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    marker = {
        "schema": SCHEMA,
        "corpora": {**corpora, **about},
        "downloads": (before or [])
        + [
            {"url": one.remote.url, "bytes": one.remote.bytes, **one.remote.checksums, "into": one.into, "when": when}
            | ({"record": one.origin, "name": one.name} if one.origin else {})
            for one in new
        ],
    }
    (whole / MARKER).unlink(missing_ok=True)  # that of an archive means nothing
    if before is not None:
        merge(whole, folder)
        os.sync()
        write_json(folder / MARKER, marker)
        return
    write_json(whole / MARKER, marker)
    os.sync()  # or a power cut could leave the marker beside files without content
    # An empty folder is replaced; one that holds files by now is not.
    whole.replace(folder)


def merge(source: Path, target: Path) -> None:
    """Moves all of a folder into another; files that are there must be the same, so that it may be done twice.

    Raises:
        CorpusError: a file would replace another one; then nothing was moved.
    """
    moves = list(_moves(source, target))
    for old, new in moves:
        new.parent.mkdir(parents=True, exist_ok=True)
        old.replace(new)


def _moves(source: Path, target: Path) -> Iterator[tuple[Path, Path]]:
    if not target.exists() and not target.is_symlink():
        yield source, target
        return
    for old in sorted(source.iterdir()):
        new = target / old.name
        if old.is_dir() and new.is_dir():
            yield from _moves(old, new)
        elif not new.exists() and not new.is_symlink():
            yield old, new
        elif old.is_dir() or not new.is_file() or not filecmp.cmp(old, new, shallow=False):
            raise CorpusError(
                "A download would replace another file.",
                file=new,
                expected="no such file, or the same one",
                found="another one",
                hint="move it away and run the same command again; two archives that hold it need `into` each",
            )

"""Transfers a file: resumed, retried, measured and checked."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from extract.download.partial import Partial, Remote
from extract.download.web import (
    PASSING,
    Client,
    PassingError,
    Patience,
    Response,
    connection,
    give_up,
    passing,
    redirected,
    retry_after,
    wait_or_give_up,
)
from mser.errors import CorpusError, DiskError

#: Told the bytes that are there and the bytes in all.
Advance = Callable[[int, int], None]

#: Bytes that a try must bring to count as progress: then the tries begin anew.
PROGRESS = 2**20
CHANGED = "the publisher changed the file, or the link leads to a page; look at the corpus's page"


@dataclass(frozen=True)
class Transferred:
    """Attributes: fetched: whether anything was asked for. resumed: bytes that were there from an earlier run."""

    fetched: bool
    resumed: int


def transfer(
    remote: Remote, path: Path, patience: Patience | None = None, advance: Advance = lambda done, total: None
) -> Transferred:
    """Gets a file, unless it is there already; a cut or stopped transfer goes on where it ended.

    Args:
        path: where the whole and checked file will be. ``<path>.partial`` is there before.

    Raises:
        CorpusError: it cannot be got, or is another file than the definition says.
        DiskError: the disk cannot hold it, or cannot be written to.
    """
    try:
        if path.is_file() and remote.fault_of(path) is None:
            return Transferred(False, 0)
        path.unlink(missing_ok=True)
        return Transferred(True, _transfer(Partial(remote, path), patience or Patience(), advance))
    except OSError as error:
        raise DiskError(
            "A download cannot be written.",
            file=path,
            found=error.strerror or error,
            hint="free the disk, or set MSER_CORPORA to another folder; the same command goes on from there",
        ) from error


def _transfer(partial: Partial, patience: Patience, advance: Advance) -> int:
    """Gets what is missing; gives the bytes that were there and could be used."""
    remote, resumed = partial.remote, partial.size()
    require_room(partial.path.parent, remote.bytes - resumed)
    headers = {"Accept-Encoding": "identity"}
    with connection(patience, headers) as client:
        _try_often(client, partial, patience, advance)
        fault = remote.fault_of(partial.path)
        if fault is not None and resumed:
            # The file changed meanwhile, and its server did not say so.
            partial.clear()
            resumed = 0
            _try_often(client, partial, patience, advance)
            fault = remote.fault_of(partial.path)
    if fault is not None:
        partial.clear()
        raise CorpusError(
            "A file was got whole, and is not the one that the definition describes; it was removed.",
            file=remote.url,
            expected=remote,
            found=fault,
            hint="run it again; if it stays so, the publisher changed the file: look at its page",
        )
    partial.finish()
    return resumed


def require_room(folder: Path, needed: int) -> None:
    """Raises DiskError where the disk has not as many bytes."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DiskError(
            "The disk is too small for a download.",
            file=folder,
            expected=f"{needed} bytes free",
            found=f"{free} bytes free",
            hint="free some, or set MSER_CORPORA to a folder on another disk",
        )


def _try_often(client: Client, partial: Partial, patience: Patience, advance: Advance) -> None:
    failures = 0
    most = partial.size()
    while partial.size() < partial.remote.bytes:
        try:
            _ask(client, partial, advance)
            return
        except PassingError as error:
            # A server that begins anew each time must not be asked without end.
            failures = 1 if partial.size() - most >= PROGRESS else failures + 1
            most = max(most, partial.size())
            found = f"{error}; {partial.size()} of {partial.remote.bytes} bytes are there"
            wait_or_give_up(error, failures, patience, partial.remote.url, found)


def _ask(client: Client, partial: Partial, advance: Advance) -> None:
    """One request, for what is missing.

    Raises:
        PassingError: it ended early. CorpusError: another try would not help.
    """
    begun = partial.size()
    headers = {"Range": f"bytes={begun}-"} if begun else {}
    if begun and partial.validator:
        headers["If-Range"] = partial.validator
    with contextlib.ExitStack() as stack, passing(partial.remote.url):
        response = redirected(client, partial.remote.url, headers, stack)
        _require_answer(response, partial, begun)
        if response.status_code == 416:
            partial.clear()
            raise PassingError("the server has not as many bytes as are there already")
        if response.status_code != 206 or not begun:
            partial.begin(_validator(response))
        _receive(response, partial, advance)
    if partial.size() < partial.remote.bytes:
        raise PassingError("the server ended too early")


def _require_answer(response: Response, partial: Partial, begun: int) -> None:
    """Raises where the answer does not begin what is missing of this file."""
    remote, status = partial.remote, response.status_code
    if status in PASSING:
        raise PassingError(f"the server answers {status}", retry_after(response))
    if status not in (200, 206, 416):
        give_up(
            remote.url, "200 or 206", f"the server answers {status}", "look at the corpus's page: it may have moved"
        )
    total = response.headers.get("Content-Range", "").rpartition("/")[2]
    if status == 206 and not response.headers.get("Content-Range", "").replace("=", " ").startswith(f"bytes {begun}-"):
        partial.clear()
        raise PassingError("the server sent another part than was asked for")
    announced = response.headers.get("Content-Length", "") if status == 200 else total
    if announced.isdecimal() and int(announced) != remote.bytes:
        partial.clear()
        kind = response.headers.get("Content-Type", "").split(";")[0]
        page = ", a page and no file" if kind == "text/html" else ""
        give_up(remote.url, remote, f"{int(announced)} bytes{page}", "the publisher changed the file; look at its page")


def _receive(response: Response, partial: Partial, advance: Advance) -> None:
    done, total = partial.size(), partial.remote.bytes
    with partial.path.open("ab") as file:
        advance(done, total)
        for block in response.iter_raw():
            done += len(block)
            if done > total:
                break
            file.write(block)
            file.flush()
            advance(done, total)
    if done > total:
        partial.clear()
        give_up(partial.remote.url, partial.remote, "more bytes", CHANGED)


def _validator(response: Response) -> str | None:
    """What If-Range takes: a strong entity tag, or else a date."""
    tag = str(response.headers.get("ETag", ""))
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")

"""Transfers a file: resumed, retried, measured and checked; or a short answer. The only module that uses httpx."""

from __future__ import annotations

import contextlib
import email.utils
import functools
import itertools
import re
import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from extract.download.partial import Partial, Remote
from mser.errors import CorpusError, DiskError

#: Told the bytes that are there and the bytes in all.
Advance = Callable[[int, int], None]

#: Bytes that a try must bring to count as progress: then the tries begin anew.
PROGRESS = 2**20
REDIRECTS = 10
#: Answers that a later try may not get: too many requests, or a server in trouble.
PASSING = (408, 425, 429, 500, 502, 503, 504)
CHANGED = "the publisher changed the file, or the link leads to a page; look at the corpus's page"


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for.

    Attributes:
        timeout: seconds until it must answer, or send more. tries: in a row that bring nothing.
        pause: seconds before the second try; twice as many before each further one. longest: seconds of a pause.
    """

    timeout: float = 30.0
    tries: int = 5
    pause: float = 1.0
    longest: float = 60.0


@dataclass(frozen=True)
class Transferred:
    """Attributes: fetched: whether anything was asked for. resumed: bytes that were there from an earlier run."""

    fetched: bool
    resumed: int


class _PassingError(Exception):
    """What a later try may mend; with the seconds that the server asks to wait."""

    def __init__(self, what: str, wait: float | None = None) -> None:
        super().__init__(what)
        self.wait = wait


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
    with _client(patience, headers) as client:
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


def _client(patience: Patience, headers: dict[str, str]) -> httpx.Client:
    return httpx.Client(verify=_trusted(), timeout=patience.timeout, follow_redirects=False, headers=headers)


@functools.cache
def _trusted() -> ssl.SSLContext:
    """Whose certificates are trusted; reading them takes longer than a small file."""
    return httpx.create_ssl_context()


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


def _try_often(client: httpx.Client, partial: Partial, patience: Patience, advance: Advance) -> None:
    failures = 0
    most = partial.size()
    while partial.size() < partial.remote.bytes:
        try:
            _ask(client, partial, advance)
            return
        except _PassingError as error:
            # A server that begins anew each time must not be asked without end.
            failures = 1 if partial.size() - most >= PROGRESS else failures + 1
            most = max(most, partial.size())
            found = f"{error}; {partial.size()} of {partial.remote.bytes} bytes are there"
            _wait(error, failures, patience, partial.remote.url, found)


def _wait(error: _PassingError, failures: int, patience: Patience, url: str, found: str) -> None:
    """Waits until the next try; raises CorpusError where there is to be none."""
    wait = patience.pause * 2 ** (failures - 1) if error.wait is None else error.wait
    if failures >= patience.tries or (error.wait or 0) > patience.longest:
        raise CorpusError(
            "A file could not be got." if failures >= patience.tries
            else f"A server asks to wait {error.wait:.0f} seconds.",
            file=url,
            found=found,
            hint="run the same command again later; it goes on from there",
        ) from error  # fmt: skip
    time.sleep(min(wait, patience.longest))


def fetch_json(url: str, limit: int, patience: Patience | None = None) -> bytes:
    """What a server answers, which says that it is JSON and has at most so many bytes.

    Raises:
        CorpusError: it cannot be got, or is something else.
    """
    patience = patience or Patience()
    headers = {"Accept": "application/json", "Accept-Encoding": "identity"}
    with _client(patience, headers) as client:
        for failures in itertools.count(1):
            try:
                return _fetch_json(client, url, limit)
            except _PassingError as error:
                _wait(error, failures, patience, url, str(error))
    raise AssertionError  # _wait raises in the end


def _fetch_json(client: httpx.Client, url: str, limit: int) -> bytes:
    content = b""
    with contextlib.ExitStack() as stack, _passing(url):
        response = _redirected(client, url, {}, stack)
        if response.status_code in PASSING:
            raise _PassingError(f"the server answers {response.status_code}", _retry_after(response))
        if response.status_code != 200:
            hint = "look at the corpus's page: the record may have moved, or may not be open; get the corpus by hand"
            _give_up(url, "200", f"the server answers {response.status_code}", hint)
        kind = response.headers.get("Content-Type", "").split(";")[0].strip().lower()
        if not re.fullmatch(r"application/(.+\+)?json", kind):
            _give_up(url, "application/json", "a page and no file" if kind == "text/html" else kind or "no type")
        announced = response.headers.get("Content-Length", "")
        if announced.isdecimal() and int(announced) > limit:
            _give_up(url, f"at most {limit} bytes", f"{int(announced)} bytes")
        for block in response.iter_bytes():
            content += block
            if len(content) > limit:
                _give_up(url, f"at most {limit} bytes", "more bytes")
    return content


@contextlib.contextmanager
def _passing(url: str) -> Iterator[None]:
    """Errors of a connection become those that a later try may mend, but for a server that is not to be trusted."""
    try:
        yield
    except httpx.HTTPError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            _give_up(url, "a server that can be trusted", error, "get it by hand, if at all")
        raise _PassingError(f"{type(error).__name__}: {error}") from error


def _ask(client: httpx.Client, partial: Partial, advance: Advance) -> None:
    """One request, for what is missing.

    Raises:
        _PassingError: it ended early. CorpusError: another try would not help.
    """
    begun = partial.size()
    headers = {"Range": f"bytes={begun}-"} if begun else {}
    if begun and partial.validator:
        headers["If-Range"] = partial.validator
    with contextlib.ExitStack() as stack, _passing(partial.remote.url):
        response = _redirected(client, partial.remote.url, headers, stack)
        _require_answer(response, partial, begun)
        if response.status_code == 416:
            partial.clear()
            raise _PassingError("the server has not as many bytes as are there already")
        if response.status_code != 206 or not begun:
            partial.begin(_validator(response))
        _receive(response, partial, advance)
    if partial.size() < partial.remote.bytes:
        raise _PassingError("the server ended too early")


def _redirected(client: httpx.Client, url: str, headers: dict[str, str], stack: contextlib.ExitStack) -> httpx.Response:
    """The answer behind all redirections; the stack closes it."""
    at = url
    for _ in range(REDIRECTS + 1):
        try:
            here = httpx.URL(at)
            if here.scheme not in ("http", "https") or not here.host:
                raise httpx.InvalidURL("no address of http or https")
            response = stack.enter_context(client.stream("GET", here, headers=headers))
            if not response.has_redirect_location:
                return response
            target = here.join(response.headers["Location"])
        except (httpx.InvalidURL, UnicodeError, ValueError) as error:
            _give_up(url, "redirections to http or https", f"{at[:200]!r}: {error}")
        response.close()
        if here.scheme == "https" and target.scheme == "http":
            _give_up(url, "no redirection from https to http", f"{str(target)[:200]!r}")
        at = str(target)
    _give_up(url, f"at most {REDIRECTS} redirections", "more")
    raise AssertionError  # _give_up always raises


def _give_up(url: str, expected: object, found: object, hint: str = "get the corpus by hand") -> None:
    raise CorpusError("A file could not be got.", file=url, expected=expected, found=found, hint=hint)


def _require_answer(response: httpx.Response, partial: Partial, begun: int) -> None:
    """Raises where the answer does not begin what is missing of this file."""
    remote, status = partial.remote, response.status_code
    if status in PASSING:
        raise _PassingError(f"the server answers {status}", _retry_after(response))
    if status not in (200, 206, 416):
        _give_up(
            remote.url, "200 or 206", f"the server answers {status}", "look at the corpus's page: it may have moved"
        )
    total = response.headers.get("Content-Range", "").rpartition("/")[2]
    if status == 206 and not response.headers.get("Content-Range", "").replace("=", " ").startswith(f"bytes {begun}-"):
        partial.clear()
        raise _PassingError("the server sent another part than was asked for")
    announced = response.headers.get("Content-Length", "") if status == 200 else total
    if announced.isdecimal() and int(announced) != remote.bytes:
        partial.clear()
        kind = response.headers.get("Content-Type", "").split(";")[0]
        page = ", a page and no file" if kind == "text/html" else ""
        _give_up(
            remote.url, remote, f"{int(announced)} bytes{page}", "the publisher changed the file; look at its page"
        )


def _receive(response: httpx.Response, partial: Partial, advance: Advance) -> None:
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
        _give_up(partial.remote.url, partial.remote, "more bytes", CHANGED)


def _validator(response: httpx.Response) -> str | None:
    """What If-Range takes: a strong entity tag, or else a date."""
    tag = str(response.headers.get("ETag", ""))
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _retry_after(response: httpx.Response) -> float | None:
    """Seconds that the server asks to wait; None where it does not, or says it in no known way."""
    said = response.headers.get("Retry-After", "").strip()
    if said.isdecimal():
        return float(said)
    with contextlib.suppress(TypeError, ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    return None

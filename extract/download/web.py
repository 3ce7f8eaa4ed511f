"""Asks servers: patience, redirections, and which answers a later try may mend. The only module that uses httpx."""

from __future__ import annotations

import contextlib
import email.utils
import functools
import itertools
import re
import ssl
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

import httpx

from mser.errors import CorpusError

Client: TypeAlias = httpx.Client
Response: TypeAlias = httpx.Response

REDIRECTS = 10
#: Answers that a later try may not get: too many requests, or a server in trouble.
PASSING = (408, 425, 429, 500, 502, 503, 504)


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


class PassingError(Exception):
    """What a later try may mend; with the seconds that the server asks to wait."""

    def __init__(self, what: str, wait: float | None = None) -> None:
        super().__init__(what)
        self.wait = wait


def connection(patience: Patience, headers: dict[str, str]) -> Client:
    """What servers are asked by; redirections are looked at one by one."""
    return httpx.Client(verify=_trusted(), timeout=patience.timeout, follow_redirects=False, headers=headers)


@functools.cache
def _trusted() -> ssl.SSLContext:
    """Whose certificates are trusted; reading them takes longer than a small file."""
    return httpx.create_ssl_context()


def wait_or_give_up(error: PassingError, failures: int, patience: Patience, url: str, found: str) -> None:
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
    with connection(patience, headers) as client:
        for failures in itertools.count(1):
            try:
                return _fetch_json(client, url, limit)
            except PassingError as error:
                wait_or_give_up(error, failures, patience, url, str(error))
    raise AssertionError  # wait_or_give_up raises in the end


def _fetch_json(client: Client, url: str, limit: int) -> bytes:
    content = b""
    with contextlib.ExitStack() as stack, passing(url):
        response = redirected(client, url, {}, stack)
        if response.status_code in PASSING:
            raise PassingError(f"the server answers {response.status_code}", retry_after(response))
        if response.status_code != 200:
            hint = "look at the corpus's page: the record may have moved, or may not be open; get the corpus by hand"
            give_up(url, "200", f"the server answers {response.status_code}", hint)
        kind = response.headers.get("Content-Type", "").split(";")[0].strip().lower()
        if not re.fullmatch(r"application/(.+\+)?json", kind):
            give_up(url, "application/json", "a page and no file" if kind == "text/html" else kind or "no type")
        announced = response.headers.get("Content-Length", "")
        if announced.isdecimal() and int(announced) > limit:
            give_up(url, f"at most {limit} bytes", f"{int(announced)} bytes")
        for block in response.iter_bytes():
            content += block
            if len(content) > limit:
                give_up(url, f"at most {limit} bytes", "more bytes")
    return content


@contextlib.contextmanager
def passing(url: str) -> Iterator[None]:
    """Errors of a connection become those that a later try may mend, but for a server that is not to be trusted."""
    try:
        yield
    except httpx.HTTPError as error:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            give_up(url, "a server that can be trusted", error, "get it by hand, if at all")
        raise PassingError(f"{type(error).__name__}: {error}") from error


def redirected(client: Client, url: str, headers: dict[str, str], stack: contextlib.ExitStack) -> Response:
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
            give_up(url, "redirections to http or https", f"{at[:200]!r}: {error}")
        response.close()
        if here.scheme == "https" and target.scheme == "http":
            give_up(url, "no redirection from https to http", f"{str(target)[:200]!r}")
        at = str(target)
    give_up(url, f"at most {REDIRECTS} redirections", "more")


def give_up(url: str, expected: object, found: object, hint: str = "get the corpus by hand") -> NoReturn:
    raise CorpusError("A file could not be got.", file=url, expected=expected, found=found, hint=hint)


def retry_after(response: Response) -> float | None:
    """Seconds that the server asks to wait; None where it does not, or says it in no known way."""
    said = response.headers.get("Retry-After", "").strip()
    if said.isdecimal():
        return float(said)
    with contextlib.suppress(TypeError, ValueError):
        return max(0.0, email.utils.parsedate_to_datetime(said).timestamp() - time.time())
    return None

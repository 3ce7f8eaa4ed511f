"""What stands between the network and the page, and between this process and the network."""

from __future__ import annotations

import ipaddress
import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

#: Bytes that a request may have beside its file.
OVERHEAD = 64 * 1024
#: Whatever the page holds, browsers ask no other host for it; and they keep nothing of what was answered.
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]


def is_loopback(host: str) -> bool:
    """Whether a name or an address can only mean this machine.

    >>> is_loopback("127.0.0.1"), is_loopback("::1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]").split("%")[0]).is_loopback
    except ValueError:
        return False


class Guard:
    """Refuses requests that are not the page's own, or too large, before anything reads them.

    A page of another site may send requests to this machine; its browser says where they come from. Where only this
    machine can ask, the name by which it is asked must be its own, or another site's name was pointed here.

    Args:
        largest: bytes of a file.
        local: whether only this machine can ask.
    """

    def __init__(self, application: Application, largest: int, local: bool) -> None:
        self.application, self.largest, self.local = application, largest, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.application(scope, receive, send)
            return
        refusal = self._refusal(scope)
        if scope["type"] != "http":
            # The page has no use for web sockets.
            await send({"type": "websocket.close", "code": 1008})
        elif refusal:
            status, text = refusal
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close"), *HEADERS]
            await send({"type": "http.response.start", "status": status, "headers": headers})
            await send({"type": "http.response.body", "body": text.encode()})
        else:
            await self.application(scope, receive, _with_headers(send, scope["path"]))

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and reason, where a request is refused."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get("host", "")
        if self.local and not is_loopback(urlsplit(f"//{host}").hostname or ""):
            return 403, "This page is for this machine alone."
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return 403, "Requests of other sites are refused."
        if scope.get("method") in ("GET", "HEAD", "OPTIONS"):
            return None
        length = headers.get("content-length", "")
        if not length.isdecimal():
            return 411, "The length of a request has to be said."
        if int(length) > self.largest + OVERHEAD:
            return 413, f"The file is too large: more than {self.largest / 2**20:g} MB."
        return None


def _with_headers(send: Send, path: str) -> Send:
    async def sent(event: MutableMapping[str, Any]) -> None:
        if event["type"] == "http.response.start":
            # Programs of the page may be kept, answers and uploads not.
            fixed = path.startswith(("/assets/", "/static/"))
            kept = [] if fixed else [(b"cache-control", b"no-store")]
            own = {name for name, _ in [*HEADERS, *kept]}
            others = [(name, value) for name, value in event.get("headers", []) if name.lower() not in own]
            event = {**event, "headers": [*others, *HEADERS, *kept]}
        await send(event)

    return sent


def quiet_environment(folder: Path) -> None:
    """What the page's libraries read when they are imported: uploads go to a folder, and nothing goes elsewhere.

    Settings that a user has for pages of their own would open this one, so none of them counts.
    """
    for name in [name for name in os.environ if name.startswith("GRADIO_")]:
        del os.environ[name]
    os.environ |= {
        "GRADIO_TEMP_DIR": str(folder),
        "GRADIO_ANALYTICS_ENABLED": "False",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_OFFLINE": "1",
    }


def refuse_other_hosts() -> None:
    """From now on this process opens no connection but to this machine, and asks no server for a name.

    Python tells hooks of every connection before it is made (PEP 578); a hook cannot be taken back.

    Raises:
        ConnectionRefusedError: in whatever tries it.
    """

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.sendto"):
            address = arguments[1]
            host = address[0] if isinstance(address, tuple) else None
        elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
            host = arguments[0]
        else:
            return
        host = host.decode() if isinstance(host, bytes) else host
        # Sockets of this machine have paths or numbers, not hosts; no host is this machine's.
        if isinstance(host, str) and host and not is_loopback(host):
            raise ConnectionRefusedError(f"mser serve connects to no other host: {host}")

    sys.addaudithook(hook)

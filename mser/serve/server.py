"""The page on a port of this machine, from start to signal."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import webbrowser
from typing import Any

import uvicorn

from mser.errors import ConfigError, RunError
from mser.serve.guard import Application

#: Seconds that open connections get to end: the page holds one open all the time.
FAREWELL = 1


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens.

    Args:
        port: 0 for any free one.

    Raises:
        ConfigError: there is no such host here, or the port is taken.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigError("The page cannot be served there.", field="--host", found=f"{host}: {error}") from error
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen()
    except OSError as error:
        listening.close()
        raise ConfigError(
            "The page cannot be served there.",
            field="--host, --port",
            found=f"{host}:{port}: {error.strerror}",
            hint="give another --port, or 0 for any free one",
        ) from error
    return listening


def address(listening: socket.socket) -> str:
    """What a browser on this machine is given."""
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::"):
        host = "localhost"
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def serve(application: Application, listening: socket.socket, opened: bool) -> None:
    """Answers until a signal ends it, which is raised again as KeyboardInterrupt.

    Args:
        opened: in the user's browser.
    """
    settings: dict[str, Any] = {"log_level": "warning", "timeout_graceful_shutdown": FAREWELL, "ws": "none"}
    server = uvicorn.Server(uvicorn.Config(application, lifespan="on", proxy_headers=False, **settings))
    if opened:
        # The socket listens already, so that the browser waits. Some browsers run in the terminal until they are left.
        threading.Thread(target=webbrowser.open, args=(address(listening),), daemon=True).start()
    # Connections that are cut at the end are no errors.
    logging.getLogger("uvicorn.error").addFilter(lambda record: not _cut(record))
    server.run(sockets=[listening])
    if not server.started:
        raise RunError("The page could not be started.", hint="see the messages above")


def _cut(record: logging.LogRecord) -> bool:
    kind = record.exc_info[0] if record.exc_info else None
    return str(record.msg).startswith("Cancel ") or (kind is not None and issubclass(kind, asyncio.CancelledError))

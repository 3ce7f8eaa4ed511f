"""A server of files on this machine that fails in the ways that servers do."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from extract.download.partial import Remote


@dataclass
class Served:
    """A file, and how it is served.

    Attributes:
        etag: its state; None: none is told. ranges: whether a part may be asked for.
        announced: Content-Length; 0: none, the connection ends with the file; None: what is true.
        first: status and headers of the answers that come before the file is served.
        cuts: bytes after which the next answers end. hangs: whether they are silent from there on, instead.
    """

    content: bytes
    etag: str | None = '"one"'
    ranges: bool = True
    announced: int | None = None
    kind: str = "application/octet-stream"
    first: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    hangs: bool = False


class Server:
    """Attributes: files: by path. asked: path and Range of every request."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.files: dict[str, Served] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.closing = threading.Event()

    def serve(self, path: str, content: bytes, **how: Any) -> Remote:
        """Serves a file; gives what a right definition says of it."""
        self.files[f"/{path}"] = Served(content, **how)
        return Remote(self.url(path), len(content), {"sha256": hashlib.sha256(content).hexdigest()})

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    @property
    def ranges(self) -> list[str | None]:
        return [asked for _, asked in self.asked]


class _Handler(BaseHTTPRequestHandler):
    server: Any

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        state: Server = self.server.state
        state.asked.append((self.path, self.headers.get("Range")))
        served = state.files.get(self.path)
        if served is None:
            self.send_error(404)
            return
        if served.first:
            status, headers = served.first.pop(0)
            self._head(status, {"Content-Length": "0", **headers})
            return
        self._send(served, self._begin(served))

    def _begin(self, served: Served) -> int | None:
        """Where the part that is asked for begins; None where the file is to be sent whole."""
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range", served.etag)
        return int(match[1]) if match and served.ranges and condition == served.etag else None

    def _send(self, served: Served, begin: int | None) -> None:
        size = len(served.content)
        if begin is not None and begin >= size:
            self._head(416, {"Content-Range": f"bytes */{size}", "Content-Length": "0"})
            return
        body = served.content[begin or 0 :]
        headers = {"Content-Type": served.kind, "Content-Length": str(len(body))}
        if served.announced is not None:
            headers["Content-Length"] = str(served.announced)
        if served.announced == 0:
            del headers["Content-Length"]
        if served.etag is not None:
            headers["ETag"] = served.etag
        if begin is not None:
            headers["Content-Range"] = f"bytes {begin}-{size - 1}/{size}"
        self._head(200 if begin is None else 206, headers)
        cut = served.cuts.pop(0) if served.cuts else None
        self.wfile.write(body[:cut])
        if cut is not None and served.hangs:
            self.wfile.flush()
            self.server.state.closing.wait(10)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True
    state: Server

    def handle_error(self, *arguments: Any) -> None:
        pass  # clients go away


@contextmanager
def file_server() -> Iterator[Server]:
    """A server that runs meanwhile."""
    with _Quiet(("127.0.0.1", 0), _Handler) as server:
        server.state = Server(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.state
        finally:
            server.state.closing.set()
            server.shutdown()
            thread.join()

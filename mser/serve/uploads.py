"""The folder that uploads pass through: each is removed once it was read, and the folder at the end."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType

#: Seconds after which an upload that nobody asked about was given up: its page was closed, or it was cut off.
GIVEN_UP = 60.0


class Uploads:
    """Files below a folder, each removed by the request that it belongs to.

    Args:
        folder: that nothing else writes to.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._removing = threading.Lock()

    @contextmanager
    def taken(self, path: Path) -> Iterator[Path]:
        """An upload for as long as it is read; afterwards it is gone, and so are those that were given up."""
        try:
            yield path
        finally:
            with self._removing:
                self._remove(path)
                given_up = time.time() - GIVEN_UP
                for other in [one for one in self.folder.rglob("*") if one.is_file()]:
                    if other.stat().st_mtime < given_up:
                        self._remove(other)

    def _remove(self, path: Path) -> None:
        # Each upload lies in a folder of its own; a page that asks for another file must not have it removed.
        if not path.resolve().is_relative_to(self.folder.resolve()):
            return
        path.unlink(missing_ok=True)
        for folder in path.resolve().parents:
            if folder == self.folder.resolve() or not folder.is_dir() or any(folder.iterdir()):
                return
            folder.rmdir()


@contextmanager
def ending_cleanly() -> Iterator[None]:
    """A closed terminal or a SIGTERM ends the program as Ctrl-C does: what was opened is closed."""

    def stop(number: int, frame: FrameType | None) -> None:
        # A second one must not end the closing.
        for one in before:
            signal.signal(one, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, stop),
        # Who takes SIGTERM while a page is open takes this one too.
        signal.SIGHUP: signal.signal(signal.SIGHUP, lambda number, frame: signal.raise_signal(signal.SIGTERM)),
    }
    try:
        yield
    finally:
        for number, action in before.items():
            signal.signal(number, action)


@contextmanager
def temporary_uploads() -> Iterator[Uploads]:
    """Uploads in a new folder, which is removed at the end, whatever ends it but SIGKILL."""
    with ending_cleanly(), TemporaryDirectory(prefix="mser-serve-") as folder:
        yield Uploads(Path(folder))

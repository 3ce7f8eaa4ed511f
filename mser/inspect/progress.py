"""How far an inspection is, how long its parts took, and how it is stopped: from two threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: Told how much is done, of how much: ``advance(done, total)``.
Advance = Callable[[int, int], None]


class Stopped(BaseException):  # as KeyboardInterrupt: nothing should take it for a failure
    """The main thread has stopped: what runs beside it stops too."""


class Meter:
    """Counts units of work that are about equally long.

    Attributes:
        seconds: wall clock of each part, by name.
    """

    def __init__(self, advance: Advance | None = None) -> None:
        self._advance, self._lock = advance, threading.Lock()
        self.done, self.total, self.stopped = 0, 0, False
        self.seconds: dict[str, float] = {}

    def expect(self, units: int) -> None:
        """More units are to come."""
        self._tell(0, units)

    def step(self, units: int = 1) -> None:
        """Units are done.

        Raises:
            Stopped: in a thread beside the main one, once that has stopped.
        """
        if self.stopped:
            raise Stopped
        self._tell(units, 0)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Adds the seconds of the block to a part's."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - began

    def _tell(self, done: int, total: int) -> None:
        with self._lock:
            self.done, self.total = self.done + done, self.total + total
            if self._advance is not None:
                self._advance(self.done, self.total)

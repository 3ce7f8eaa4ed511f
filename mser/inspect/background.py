"""Work beside the main thread, which no exit waits for."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

Result = TypeVar("Result")


class Background:
    """Runs functions one after another in a thread of its own.

    The long loops of torch and scikit-learn let other threads run, so two cores are busy without a second process,
    which would take seconds to start. The thread is a daemon: Ctrl-C ends the program while such a loop goes on.
    """

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        threading.Thread(target=self._run, daemon=True).start()

    def submit(self, work: Callable[[], Result]) -> Future[Result]:
        future: Future[Result] = Future()
        self._waiting.put((future, work))
        return future

    def end(self) -> None:
        """After what was submitted the thread ends."""
        self._waiting.put(None)

    def _run(self) -> None:
        while (one := self._waiting.get()) is not None:
            future, work = one
            try:
                future.set_result(work())
            except BaseException as error:  # handed on to whoever asks for the result
                future.set_exception(error)


@contextmanager
def beside() -> Iterator[Background]:
    """A background for the block."""
    background = Background()
    try:
        yield background
    finally:
        background.end()

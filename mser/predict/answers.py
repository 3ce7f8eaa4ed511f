"""Where predictions are written, and that nothing there is lost for nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TextIO

from mser.errors import ConfigError
from mser.predict.output import csv_header, csv_line, json_line, table_row
from mser.predict.recognizer import Prediction
from mser.terminal import print_table


class Answers:
    """Predictions on their way to standard output or to a file; JSON lines and CSV one by one, a table at the end.

    A file is opened with the first line that goes into it: what lay there before stays until then, and what was judged
    before the program was stopped is there.

    Args:
        form: one of FORMATS. output: the file; None for standard output.
        emotions: of CSV's columns. abstain: below this probability it is ``unsure``.
    """

    def __init__(self, form: str, output: Path | None, emotions: Sequence[str], abstain: float = 0.0) -> None:
        self.form, self.output, self.emotions, self.abstain = form, output, emotions, abstain
        self._file: TextIO | None = None
        self._rows: list[list[str]] = []

    def __enter__(self) -> Answers:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._rows:
                columns = ["recording", "time", "language", "emotion", "most probable"]
                print_table("Emotions", columns, self._rows, self._target())
        finally:
            if self._file is not None and self.output is not None:
                self._file.close()

    def add(self, predictions: Sequence[Prediction]) -> None:
        """Writes what was said of a recording, or keeps it for the table."""
        for one in predictions:
            if self.form == "table":
                self._rows.append(table_row(one, self.abstain))
            elif self.form == "jsonl":
                print(json_line(one, self.abstain), file=self._target(), flush=True)
            else:
                print(csv_line(one, self.emotions, self.abstain), file=self._target(), flush=True)

    def _target(self) -> TextIO:
        if self._file is None:
            try:
                self._file = sys.stdout if self.output is None else self.output.open("w", encoding="utf-8")
            except OSError as error:
                raise _unwritable(self.output, error.strerror) from error
            if self.form == "csv":
                print(csv_header(self.emotions), file=self._file)
        return self._file


def make_folder(folder: Path, option: str) -> None:
    """Makes the folder that an option names, with those above it.

    Raises:
        ConfigError: it cannot be made, or not be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error.strerror, option) from error
    require_writable(folder, option)


def require_writable(path: Path, option: str) -> None:
    """Raises ConfigError where a file or folder that is there may not be written to; nothing is changed."""
    if path.exists() and not os.access(path, os.W_OK):
        raise _unwritable(path, "no permission to write there", option)


def _unwritable(path: object, found: object, option: str = "--output") -> ConfigError:
    return ConfigError(
        "The answers cannot be written.",
        file=path,
        field=option,
        expected="a place that can be written to",
        found=found,
        hint="give another one",
    )

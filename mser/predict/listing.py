"""Which recordings are to be judged: files, what lies in folders, standard input, the lines of a list."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TextIO

from mser.containers import FOREIGN_SUFFIXES, SUFFIXES, is_apple
from mser.errors import ConfigError


def recordings_of(given: Sequence[str], listed: TextIO | None, stack: ExitStack) -> Iterator[tuple[str, Path]]:
    """Name and path of each recording.

    A folder stands for the recordings in it; for videos and sound of other formats, too, so that they are refused by
    name and not passed over.

    Args:
        given: files, folders, - for standard input. listed: a path on each line.
        stack: that removes the copy of standard input when it ends.

    Raises:
        ConfigError: a folder holds no recording.
    """
    for text in given:
        path = Path(text)
        if text == "-":
            kept = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "recording"
            kept.write_bytes(sys.stdin.buffer.read())
            yield "standard input", kept
        elif path.is_dir():
            yield from ((str(one), one) for one in _recordings_in(path))
        else:
            yield text, path
    yield from ((line.strip(), Path(line.strip())) for line in listed or () if line.strip())


def _recordings_in(folder: Path) -> list[Path]:
    suffixes = SUFFIXES | FOREIGN_SUFFIXES
    found = sorted(
        one for one in folder.rglob("*")
        if one.suffix.lower() in suffixes and not one.is_dir() and not is_apple(one.relative_to(folder))
    )  # fmt: skip
    if not found:
        raise ConfigError(
            "The folder holds no recording.",
            file=folder,
            field="RECORDING",
            expected=f"files ending in {' '.join(sorted(SUFFIXES))}",
            hint="give a folder with recordings, or the recordings themselves",
        )
    return found

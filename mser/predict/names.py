"""What recordings are called in pictures, and in the names of files about them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mser.config import fingerprint

#: Characters of a recording's name that files about it are named by: of 4 bytes each they still fit into a file's name.
NAME_CHARACTERS = 40


def file_name(recording: str) -> str:
    """What files about a recording are named, without an ending: recordings of one name in other folders, or with other
    endings, have others.

    >>> file_name("calls/1.wav") != file_name("mails/1.wav") != file_name("mails/1.flac")
    True
    >>> file_name("calls/1.wav").startswith("calls-1-")
    True
    """
    path = Path(recording)
    words = re.sub(r"[^\w.-]+", "-", f"{path.parent.name}-{path.stem}").lstrip("-.")
    return f"{words[-NAME_CHARACTERS:]}-{fingerprint(os.path.abspath(path))[:8]}"


def title_of(recording: str) -> str:
    """A recording's name in a picture: its folder's and its own."""
    return str(Path(*Path(recording).parts[-2:]))

"""A file that is to be got, and the part of it that is there."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mser.config import read_if_whole, write_json


@dataclass(frozen=True)
class Remote:
    """A file as the definition knows it.

    Attributes:
        checksums: algorithm -> hexadecimal digits.
    """

    url: str
    bytes: int
    checksums: Mapping[str, str] = field(hash=False)

    def fault_of(self, path: Path) -> str | None:
        """How a file differs from it; None where it is this one."""
        if (size := path.stat().st_size) != self.bytes:
            return f"{size} bytes"
        for algorithm, expected in self.checksums.items():
            with path.open("rb") as file:
                found = hashlib.file_digest(file, algorithm).hexdigest()
            if found != expected:
                return f"{algorithm} {found}"
        return None

    def __str__(self) -> str:
        return ", ".join([f"{self.bytes} bytes", *(f"{name} {digits}" for name, digits in self.checksums.items())])


class Partial:
    """A file on its way, and the sidecar that says of which file of the server it is a part."""

    def __init__(self, remote: Remote, path: Path) -> None:
        self.remote, self.whole = remote, path
        self.path = path.with_name(f"{path.name}.partial")
        self._sidecar = path.with_name(f"{path.name}.partial.json")
        self._known = {"url": remote.url, "bytes": remote.bytes, "checksums": dict(remote.checksums)}
        path.parent.mkdir(parents=True, exist_ok=True)
        self.validator: str | None = None
        found = read_if_whole(self._sidecar, [*self._known, "validator"])
        if found is None or any(found[name] != value for name, value in self._known.items()):
            self.clear()
        else:
            self.validator = found["validator"] if isinstance(found["validator"], str) else None
        if self.size() > remote.bytes:
            self.clear()

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def clear(self) -> None:
        self.path.unlink(missing_ok=True)
        self._sidecar.unlink(missing_ok=True)
        self.validator = None

    def begin(self, validator: str | None) -> None:
        """Forgets what is there, and notes what the server calls this state of the file."""
        self.clear()
        self.validator = validator
        write_json(self._sidecar, {**self._known, "validator": validator})

    def finish(self) -> None:
        with self.path.open("rb+") as file:
            os.fsync(file.fileno())
        self.path.replace(self.whole)
        self._sidecar.unlink(missing_ok=True)

"""Every error a user can cause, with one way of saying it.

Each class has the project base :class:`MserError` and a builtin parent, so that a
notebook may catch either. The command lines print the message and exit with 1.
"""

from __future__ import annotations

from typing import Any


class MserError(Exception):
    """An error with the facts a user needs to mend it.

    Args:
        what: one sentence: what went wrong.
        file: the file or folder concerned.
        field: the field, option or dataset concerned.
        expected: what would have been right.
        found: what was there instead.
        hint: what to do or run next.
    """

    def __init__(
        self,
        what: str,
        *,
        file: object = None,
        field: object = None,
        expected: object = None,
        found: object = None,
        hint: str | None = None,
    ) -> None:
        self.what, self.hint = what, hint
        self.file, self.field, self.expected, self.found = file, field, expected, found
        facts = {"file": file, "field": field, "expected": expected, "found": found, "next": hint}
        lines = [f"  {name + ':':<10}{value}" for name, value in facts.items() if value is not None]
        super().__init__("\n".join([what, *lines]))

    def __reduce__(self) -> tuple[Any, ...]:
        # Workers send errors to the process that started them.
        facts = {name: getattr(self, name) for name in ("file", "field", "expected", "found", "hint")}
        plain = {name: None if value is None else str(value) for name, value in facts.items()}
        return _rebuild, (type(self), self.what, plain)


def _rebuild(kind: type[MserError], what: str, facts: dict[str, str | None]) -> MserError:
    return kind(what, **facts)


class ConfigError(MserError, ValueError):
    """An option, variable or configuration file that cannot be used."""


class CorpusError(MserError, ValueError):
    """A corpus definition or a corpus folder that cannot be used."""


class ManifestError(MserError, ValueError):
    """A manifest that is missing, damaged, or not the one expected."""


class AudioError(MserError, ValueError):
    """A recording that cannot be decoded or used."""


class UpstreamError(MserError, RuntimeError):
    """A pretrained speech model that cannot be found, loaded or run."""


class StoreError(MserError, RuntimeError):
    """A store of hidden states that is missing, damaged, or of another making."""


class DiskError(StoreError):
    """A disk that is full, or cannot be written to: no later shard can be written either."""


class ProtocolError(MserError, ValueError):
    """Folds that cannot be made, or that would leak."""


class GenotypeError(MserError, ValueError):
    """A genotype that does not fit the search space."""


class RunError(MserError, RuntimeError):
    """A run folder that is missing, half written, or of another making."""

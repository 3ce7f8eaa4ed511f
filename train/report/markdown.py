"""Markdown, of values that may hold anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table; what would break it is escaped."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(cell(value) for value in line)} |" for line in lines)


def cell(value: object) -> str:
    """
    >>> cell("a|b\\n c")
    'a\\\\|b c'
    """
    return " ".join(str(value).split()).replace("|", "\\|")


def bullets(sentences: Iterable[object]) -> str:
    """A list; each entry on one line."""
    return "\n".join(f"- {' '.join(str(one).split())}" for one in sentences)

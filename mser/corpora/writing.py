"""Writes a proposed definition as YAML, with what is guessed and what has to be asked as comments."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from mser.corpora.proposal import Proposal, Question

WIDTH = 118
#: What stands where only people know the answer, and what a line begins with that asks for it.
ASKED, QUESTION = "unknown", "QUESTION"


@dataclass(frozen=True)
class Head:
    """What names do not tell.

    Attributes:
        folder: below ``MSER_CORPORA``, where it is not the name.
    """

    name: str
    title: str
    language: str
    licence: str = ""
    folder: str = ""


def open_questions(proposal: Proposal, head: Head) -> list[Question]:
    """All that has to be asked, in the order of the file."""
    found = [Question("title", "What is the corpus called?")]
    found += [one for one in proposal.questions if one.key == "language"]
    if not head.licence:
        found.append(Question("licence", "Under what terms may it be used? An SPDX identifier where there is one."))
    found += [
        Question("citation", "What is to be cited?"),
        Question("get", "Where does it come from, and which folder is to be used?"),
    ]
    found += [one for one in proposal.questions if one.key != "language"]
    return [*found, Question("expected", "How many utterances, speakers and files an emotion are published?")]


def definition_text(proposal: Proposal, head: Head, examples: Mapping[str, Mapping[str, Any]]) -> str:
    """The YAML of a definition; every open question stands above the key that it belongs to.

    Args:
        examples: path -> the fields that are read from it.
    """
    asked: dict[str, list[str]] = {}
    for question in open_questions(proposal, head):
        asked.setdefault(question.key, []).append(question.text)
    lines = [
        "# Proposed from the names of the recordings. `# guess`: likely, not sure; `# ?`: not known, left out.",
        "# Answer each QUESTION and delete it; `mser corpora check` tries what you change.",
    ]
    for key, body in _entries(proposal, head, examples).items():
        if key in ("pattern", "emotions", "examples"):
            lines.append("")
        for text in asked.pop(key, ()):
            lines += _comment(text)
        if key == "emotions":
            for label in [one for one in asked if one.startswith("emotions.")]:
                for text in asked.pop(label):
                    lines += _comment(text)
        lines += body
    for texts in asked.values():
        for text in texts:
            lines += _comment(text)
    return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    # A name may hold what ends a line of YAML.
    text = "".join(one if one.isprintable() else " " for one in text)
    return textwrap.wrap(f"{QUESTION}: {text}", WIDTH, initial_indent="# ", subsequent_indent="#   ")


def _entries(proposal: Proposal, head: Head, examples: Mapping[str, Mapping[str, Any]]) -> dict[str, list[str]]:
    """The lines of each key."""
    found = {"name": [f"name: {scalar(head.name)}"], "title": [f"title: {scalar(head.title)}"]}
    found["language"] = [f"language: {scalar(head.language)}"]
    found["licence"] = [f"licence: {scalar(head.licence or ASKED)}"]
    found |= {key: [f"{key}: {ASKED}"] for key in ("citation", "get")}
    if head.folder:
        found["folder"] = [f"folder: {scalar(head.folder)}"]
    if proposal.pattern is not None:
        found["pattern"] = [f"pattern: {quoted(proposal.pattern)}"]
    # Questions on what is read stand above the layout, whichever it is.
    found.setdefault("pattern", [])
    if proposal.table is not None:
        found["table"] = ["table:", *_mapping(proposal.table)]
    if proposal.speaker is not None:
        found["speaker"] = [f"speaker: {scalar(proposal.speaker)}"]
    found["emotions"] = ["emotions:", *_labels(proposal)]
    found["speakers"] = []
    if proposal.genders:
        found["genders"] = ["genders:", *_mapping(dict(sorted(proposal.genders.items())))]
    if examples:
        found["examples"] = ["examples:", *(f"  {quoted(path)}: {_flow(read)}" for path, read in examples.items())]
    return found


def _labels(proposal: Proposal) -> Iterable[str]:
    for value, read in sorted(proposal.labelling.readings.items()):
        if read is None:
            yield f"  {scalar(value)}: null  # ?"
        else:
            yield f"  {scalar(value)}: {read.label}" + ("" if read.certain else "  # guess")


def _mapping(content: Mapping[str, Any], indent: str = "  ") -> Iterable[str]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield f"{indent}{scalar(key)}:"
            yield from _mapping(value, indent + "  ")
        else:
            yield f"{indent}{scalar(key)}: {scalar(str(value))}"


def _flow(content: Mapping[str, Any]) -> str:
    return (
        "{" + ", ".join(f"{key}: {'null' if value is None else scalar(value)}" for key, value in content.items()) + "}"
    )


def scalar(text: str) -> str:
    """Text as YAML reads it back: in quotes where it would be something else without.

    >>> scalar("anger"), scalar("03"), scalar("no"), scalar("it's"), scalar("a: b")
    ('anger', "'03'", "'no'", "'it''s'", "'a: b'")
    """
    plain = bool(re.fullmatch(r"[^\W\d_][\w .()/-]*\w|[^\W\d_]", text)) and yaml.safe_load(text) == text
    return text if plain else quoted(text)


def quoted(text: str) -> str:
    """Text in single quotes; in double ones where it has what these cannot hold."""
    if any(not one.isprintable() for one in text):
        return json.dumps(text)
    return "'" + text.replace("'", "''") + "'"

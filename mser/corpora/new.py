"""Looks at a folder of recordings and drafts its definition."""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from mser.config import write_text
from mser.corpora.catalogue import is_definition, named_in
from mser.corpora.definition import CorpusDefinition
from mser.corpora.drafts import lost_emotions
from mser.corpora.fields import FOLDER_NAME, is_folder_name
from mser.corpora.outcome import Outcome, read_names
from mser.corpora.proposal import Proposal, Question, composed, propose, refuse
from mser.corpora.recordings import Listing, listing
from mser.corpora.tables import Tables, lines_of, table_names, tables_of
from mser.corpora.writing import Head, definition_text, open_questions
from mser.errors import ConfigError, CorpusError
from mser.languages import CODE, code_of, fault_of, name_of

#: Recordings that stand in the definition as examples.
EXAMPLES = 3


@dataclass(frozen=True)
class Draft:
    """A definition that was proposed.

    Attributes:
        files: recordings looked at.
        outcome: what the definition makes of them.
        remarks: lines on what was not looked at.
    """

    text: str
    definition: CorpusDefinition
    proposal: Proposal
    questions: tuple[Question, ...]
    files: int
    outcome: Outcome
    remarks: tuple[str, ...] = ()


def draft(folder: Path, name: str = "", language: str = "", licence: str = "", emotion: str = "") -> Draft:
    """Proposes a definition by the names of the recordings in a folder, and tables that lie beside them.

    Args:
        language: that is spoken; guessed where the emotions' words tell it.
        emotion: where it stands: a column of a table, or a place in the names as refusals and drafts say it.

    Raises:
        CorpusError: there are no recordings, or nothing in their names or tables looks like emotions.
        ConfigError: the language is no ISO 639 code, or is not given and cannot be guessed.
    """
    if language and (fault := fault_of(language)):
        raise ConfigError("This is no language.", field="--language", expected=CODE, found=f"{language}: {fault}")
    there = _listing(folder)
    paths = _recordings(folder, there)
    some = composed(paths)
    proposal = propose(some, language, emotion=emotion)
    tables: Tables | None = None
    if proposal is None or proposal.speaker is not None:
        tables = tables_of(folder, some)
        proposal = propose(some, language, tables.sheets, emotion)
    if proposal is None:
        raise refuse(some, folder, tables, emotion)
    proposal = _with_language(proposal, folder)
    called = _name_of(folder)
    name = name or re.sub(r"[^\w.-]+", "_", called).strip("_.").lower() or "corpus"
    head = Head(name, called, proposal.language, licence, "" if called == name else called)
    definition = _definition(proposal, head)
    outcome = read_names(definition.reader(folder), paths)
    if "(?P<emotion>" in (proposal.pattern or ""):
        proposal = replace(proposal, questions=(*proposal.questions, *lost_emotions(outcome)))
    remarks = (*filter(None, [there.remark]), *lines_of(_unused(folder, proposal, tables)))
    text = definition_text(proposal, head, _examples(outcome) if proposal.table is None else {})
    return Draft(text, definition, proposal, tuple(open_questions(proposal, head)), len(paths), outcome, remarks)


def _listing(folder: Path) -> Listing:
    if not folder.is_dir():
        raise CorpusError("There is no such folder.", file=folder, expected="a folder of recordings")
    return listing(folder)


def _name_of(folder: Path) -> str:
    """What a folder is called; a link by its own name, not by that of what it leads to.

    Raises:
        CorpusError: no definition could name it.
    """
    called = Path(os.path.abspath(folder)).name
    if not is_folder_name(called):
        raise CorpusError(
            "A definition cannot name this folder.",
            file=os.fsencode(folder).decode("utf-8", "backslashreplace"),
            expected=FOLDER_NAME,
            found=ascii(called),
            hint="rename it, or make a link to it under another name and give that",
        )
    return called


def _recordings(folder: Path, there: Listing) -> list[PurePosixPath]:
    found = there.files
    # Names of recordings that are yet to be converted tell as much.
    paths = [one.relative for one in found if not one.fault or "cannot be decoded" in one.fault]
    if len(paths) < 2:
        raise CorpusError(
            "There are fewer than two recordings in this folder." if paths
            else "There are no recordings in this folder.",
            file=folder,
            expected="at least two, such as .wav or .flac, in it or in folders below it",
            found=f"{len(paths)}" + (f"; {found[0].printable}: {found[0].fault}" if found and found[0].fault else ""),
            hint="unpack archives first, and give the folder that holds what they held",
        )  # fmt: skip
    return paths


def _unused(folder: Path, proposal: Proposal, tables: Tables | None) -> dict[str, str]:
    """The tables that a proposal does not read -> why."""
    if tables is None:
        return dict.fromkeys(table_names(folder), "names of recordings tell emotion and speaker")
    why = f"{proposal.sheet.title} is used" if proposal.sheet else "no column tells more than names do"
    others = [file for sheet in tables.sheets if sheet is not proposal.sheet for file in sheet.files]
    return {**tables.unusable, **dict.fromkeys(others, why)}


def _with_language(proposal: Proposal, folder: Path) -> Proposal:
    """The proposal with a language: its own, or one that the folder is named after."""
    if proposal.language:
        return proposal
    words = re.split(r"[^a-z]+", Path(os.path.abspath(folder)).name.lower())
    named = sorted({code for word in words if len(word) > 3 and (code := code_of(word))})
    if len(named) == 1:
        question = Question("language", f"Is the language {name_of(named[0])}, as the folder is named?")
        return replace(proposal, language=named[0], questions=(question, *proposal.questions))
    labels = ", ".join(sorted(proposal.labelling.readings))
    known = "used in corpora of many languages" if any(proposal.labelling.readings.values()) else "not known"
    raise ConfigError(
        "The language of this corpus cannot be guessed.",
        file=folder,
        field="--language",
        expected=CODE,
        found=f"labels that are {known}: {labels}",
        hint="say which is spoken: --language de, for instance",
    )


def _definition(proposal: Proposal, head: Head) -> CorpusDefinition:
    readings = proposal.labelling.readings
    given: dict[str, Any] = {"name": head.name, "title": head.title, "language": head.language, "folder": head.folder}
    return CorpusDefinition(
        **{key: value for key, value in given.items() if value},
        licence=head.licence or "unknown",
        citation="unknown",
        get="unknown",
        emotions={value: None if read is None else read.label for value, read in readings.items()},
        pattern=proposal.pattern,
        table=proposal.table,
        speaker=proposal.speaker,
        genders=dict(proposal.genders),
    )


def _examples(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """A few files, of other labels and mostly of other speakers, with what is read from them."""
    found: dict[str, dict[str, Any]] = {}
    for number, emotion in enumerate(sorted(outcome.emotions)[:EXAMPLES]):
        of_emotion = [one for one in outcome.utterances if one.emotion == emotion]
        one = of_emotion[number * len(of_emotion) // EXAMPLES]
        kept = {key: value for key, value in one.fields.items() if value and key != "emotion"}
        found[str(one.path)] = {"emotion": one.emotion, **kept}
    return found


def write_draft(one: Draft, path: Path) -> CorpusDefinition:
    """Writes the definition, and reads it again.

    Raises:
        ConfigError: the file exists, is none that definitions are read from, or another one in its folder has the name.
        DiskError: it cannot be written.
    """
    if not is_definition(path):
        right = path.with_name(path.name.lstrip(".") or "corpus").with_suffix(".yaml")
        raise ConfigError(
            "Definitions are not read from such a file.",
            file=path,
            field="--out",
            expected="a name that ends in .yaml or .yml, and does not begin with a dot",
            hint=f"give --out {shlex.quote(str(right))}",
        )
    if path.exists():
        raise ConfigError(
            "A definition of this name exists, and is not overwritten.",
            file=path,
            hint="give another file with --out, or another --name, or remove it",
        )
    if (twin := named_in(path.parent, one.definition.name)) is not None:
        raise ConfigError(
            f"A definition named {one.definition.name} is in this folder, and two of one name are used nowhere.",
            file=path,
            field="name",
            found=f"also {twin}",
            hint="give another --name, or another folder with --out, or remove the other one",
        )
    write_text(path, one.text)
    return CorpusDefinition.from_yaml(path)

"""Proposes a corpus definition from the paths of its recordings, and says what the names cannot tell."""

from __future__ import annotations

import glob
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from mser.corpora.codes import Labelling
from mser.corpora.names import Field, View, column_views, joined_regex, literal, place_of, views_of
from mser.corpora.roles import MOST_EMOTIONS, Roles, find_roles
from mser.corpora.speakers import PART, PERSON
from mser.corpora.tables import ENCODINGS, Sheet, Tables, lines_of
from mser.errors import CorpusError
from mser.languages import name_of

#: Paths that roles are looked for in; more are taken evenly out of all.
LOOKED_AT = 4_000


@dataclass(frozen=True)
class Question:
    """What has to be asked of people.

    Attributes:
        key: of the definition that the answer belongs to.
    """

    key: str
    text: str


@dataclass(frozen=True)
class Role:
    """One line of what was found: ``where`` in the names or table, and its first values."""

    name: str
    where: str
    values: str


@dataclass(frozen=True)
class Proposal:
    """A definition without what only people know.

    Attributes:
        language: that the words for emotions say is spoken; empty where they do not.
        labelling: what the source labels mean.
        speaker: of all recordings, where nothing tells speakers apart.
        sheet: the tables that it reads.
    """

    labelling: Labelling
    language: str
    questions: tuple[Question, ...]
    roles: tuple[Role, ...]
    pattern: str | None = None
    table: Mapping[str, object] | None = None
    speaker: str | None = None
    genders: Mapping[str, str] = field(default_factory=dict)
    sheet: Sheet | None = None


def composed(paths: Sequence[PurePosixPath]) -> list[PurePosixPath]:
    """Paths as definitions are written, at most :data:`LOOKED_AT` of them."""
    step = max(1, -(-len(paths) // LOOKED_AT))
    return [PurePosixPath(unicodedata.normalize("NFC", str(path))) for path in paths[::step]]


def propose(
    paths: Sequence[PurePosixPath], language: str = "", sheets: Sequence[Sheet] = (), emotion: str = ""
) -> Proposal | None:
    """A proposal by names, and by a table where they do not tell emotion and speaker; None where nothing does.

    Args:
        sheets: tables whose rows are those of the paths.
        emotion: where it stands, if that is known: a column, or a place in the names as :func:`place_of` says it.
    """
    views = views_of(paths)
    best, chosen = find_roles(views, language, emotion), None
    for sheet in sheets:
        if best is not None and best.speaker is not None:
            break
        found = find_roles([*views, *column_views(sheet.columns)], language, emotion)
        if found is not None and (best is None or found.speaker is not None):
            best, chosen = found, sheet
    return None if best is None else _proposal(best, language, chosen)


def _proposal(roles: Roles, language: str, sheet: Sheet | None) -> Proposal:
    named = roles.named
    in_names = {name: one for name, one in named.items() if not one.view.column}
    table = {name: one.view.column for name, one in named.items() if one.view.column}
    return Proposal(
        labelling=roles.labelling,
        language=language or roles.labelling.language,
        questions=tuple(_questions(roles, language)),
        roles=tuple(Role(name, place_of(one), one.examples) for name, one in named.items()),
        pattern=pattern_of(in_names) if in_names else None,
        table=table_of(sheet, table) if sheet and table else None,
        speaker=None if roles.speaker else "unknown",
        genders=roles.genders,
        sheet=sheet if table else None,
    )


def table_of(sheet: Sheet, columns: Mapping[str, str]) -> dict[str, object]:
    """The key ``table`` of a definition that reads these columns."""
    found: dict[str, object] = {"file": sheet.pattern, "path": sheet.path}
    if not sheet.pattern:
        found = {"files": {glob.escape(file): sheet.path for file in sheet.files}}
    found |= {"by": "name"} if sheet.by_name else {}
    found |= {"delimiter": sheet.delimiter} if sheet.delimiter != "," else {}
    found |= {"encoding": sheet.encoding} if sheet.encoding != ENCODINGS[0] else {}
    return found | {"columns": dict(columns)}


def pattern_of(named: Mapping[str, Field]) -> str:
    """The regular expression that reads the fields."""
    views = {one.view.level: one.view for one in named.values()}
    levels = []
    for level in range(max(views), -1, -1):
        fields = {name: one for name, one in named.items() if one.view.level == level}
        levels.append(_level_of(views[level], fields) if level in views else "[^/]+")
    return "(?:.*/)?" + "/".join(levels)


def _level_of(view: View, fields: Mapping[str, Field]) -> str:
    found: list[str] = []
    start = 0
    while start < len(view.pieces):
        token = view.pieces[start].token
        stop = start
        while stop < len(view.pieces) and view.pieces[stop].token == token and (token >= 0 or stop == start):
            stop += 1
        inner = {name: one for name, one in fields.items() if start <= one.start and one.stop <= stop}
        found.append(_stretch(view, start, stop, inner) if inner else _unread(Field(view, start, stop)))
        start = stop
    return "".join(found)


def _stretch(view: View, start: int, stop: int, fields: Mapping[str, Field]) -> str:
    """The expression of neighbouring pieces, with the groups that lie in them; one may lie in another."""
    outer = {
        name: one for name, one in fields.items()
        if not any(other is not one and other.start <= one.start and one.stop <= other.stop and
                   (other.start, other.stop) != (one.start, one.stop) for other in fields.values())
    }  # fmt: skip
    found, place = [], start
    for name, one in sorted(outer.items(), key=lambda item: item[1].start):
        inner = {
            other: field
            for other, field in fields.items()
            if other not in outer and one.start <= field.start < one.stop
        }
        found.append(joined_regex(view.pieces[place : one.start]))
        body = _stretch(view, one.start, one.stop, inner) if inner else _values(one, name)
        found.append(f"(?P<{name}>{body})")
        place = one.stop
    return "".join(found) + joined_regex(view.pieces[place:stop])


def _values(one: Field, name: str) -> str:
    regex = joined_regex(one.pieces)
    if one.view.level > 0 and len(one.pieces) == len(one.view.pieces) and regex.startswith("["):
        # A folder of its own needs no shape.
        regex = "[^/]+"
    if name in ("emotion", "gender") and (
        "[^/_" in regex or (regex == "[^/]+" and one.view.level == 0) or name == "gender"
    ):
        # Labels with separators in them, and a gender's few letters, are spelled out.
        return "|".join(literal(value) for value in sorted(one.counts, key=lambda value: (-len(value), value)))
    return regex


def _unread(token: Field) -> str:
    """The expression of a token, or separator, that nothing is read from."""
    values = set(token.counts)
    if len(values) == 1 and not next(iter(values)).isdigit():
        return literal(values.pop())
    if {piece.kind for piece in token.pieces} <= {"digits", "separator"}:
        return joined_regex(token.pieces)
    return "[^/]+" if any(re.search(r"[_\-. ]", value) for value in values) else r"[^/_\-. ]+"


def _questions(roles: Roles, language: str) -> list[Question]:
    found = label_questions(roles.labelling, language)
    speaker = roles.speaker
    if speaker is None:
        text = "Nothing tells speakers apart. Is it a single one, or where do they stand? Splits by speaker need them."
        found.append(Question("speaker", text))
    else:
        first = next(iter(sorted(speaker.counts)))
        before = next((row for row in speaker.view.rows if row is not None), ())[: speaker.start]
        sample = "".join(before) + first
        if PART.fullmatch(sample):
            found.append(
                Question("pattern", f"Is {first} a speaker, or a session or part that several speakers are in?")
            )
        elif not PERSON.fullmatch(sample.rstrip("0123456789")):
            also = "; or is it ".join(f"{one.examples} ({place_of(one)})" for one in roles.others[:1])
            found.append(
                Question("pattern", f"Are {speaker.examples} the speakers{f'; or is it {also}' if also else ''}?")
            )
        if len(speaker.counts) > 1 and roles.gender is None:
            found.append(Question("speakers", f"Which of the {len(speaker.counts)} speakers are female, which male?"))
    if roles.gender is not None:
        stand = ", ".join(f"{value} {gender}" for value, gender in sorted(roles.genders.items()))
        found.append(Question("genders", f"Does it mean the speaker's gender: {stand}?"))
    if roles.text is not None:
        text = f"{roles.text.examples} ({place_of(roles.text)})"
        found.append(
            Question("pattern", f"Is {text} the sentence, and are its words the same with each emotion and speaker?")
        )
    if roles.intensity is not None:
        found.append(Question("pattern", f"Is {roles.intensity.examples} how strong the emotion is?"))
    if roles.text is None or len(roles.rest) > 1:
        rest = "; ".join(f"{one.examples} ({place_of(one)})" for one in roles.rest)
        found += [Question("pattern", f"What do these tell: {rest}?")] if rest else []
    return found


def label_questions(labelling: Labelling, language: str) -> list[Question]:
    """What is to be asked of the language and of each label that is not sure."""
    found = []
    if not language and labelling.language:
        found.append(
            Question("language", f"Is the language {name_of(labelling.language)}? The labels are written in it.")
        )
    codes = sorted({one.source for one in labelling.readings.values() if one and one.how == "code"})
    for source in codes:
        meant = {value: one.label for value, one in labelling.readings.items() if one and one.how == "code"}
        stand = ", ".join(f"{value} {label}" for value, label in sorted(meant.items()))
        found.append(Question("emotions", f"Do they mean what {source} mean: {stand}?"))
    for value, one in sorted(labelling.readings.items()):
        if one is None:
            found.append(
                Question(f"emotions.{value}", f"What does label {value!r} mean? It is left out until it is mapped.")
            )
        elif one.how in ("part", "beginning", "near"):
            found.append(Question(f"emotions.{value}", f"Does label {value!r} mean {one.label}?"))
    return found


def refuse(paths: Sequence[PurePosixPath], folder: object, tables: Tables | None, emotion: str = "") -> CorpusError:
    """What was seen in a folder in which nothing looks like emotions, or nothing stands where they should.

    Args:
        emotion: where they should.
    """
    sheets = tables.sheets if tables else ()
    seen = [*_seen_in_names(paths)]
    seen += [
        f"{sheet.title}, column {column}: {', '.join(sorted({value for value in values if value})[:6])}"
        for sheet in sheets
        for column, values in sheet.columns.items()
    ]
    seen += lines_of(tables.unusable if tables else {})
    layout = "`pattern` is a regular expression for the path without suffix, such as "
    layout += "'(?P<speaker>[^/]+)/(?P<emotion>[^_]+)_.*'"
    if sheets:
        block = {**table_of(sheets[0], {"speaker": "COLUMN", "emotion": "COLUMN"})}
        layout += f"; `table: {json.dumps(block, ensure_ascii=False)}` reads {sheets[0].title}"
    return CorpusError(
        f"No emotions stand at {emotion!r}." if emotion
        else "Nothing in the names of the recordings looks like emotions.",
        file=folder,
        field="--emotion" if emotion else None,
        expected="a column of a table, or a place in the names as below, with 2 to "
        f"{MOST_EMOTIONS} values" if emotion
        else "a folder, a part of the names, or a column of a table (.csv, .tsv) beside them with words or usual "
        "codes for emotions, or a column called emotion",
        found="; ".join(seen),
        hint="if one of these is the emotion, say which: --emotion 'folder', for instance, or --emotion COLUMN; or "
        f"write the definition by hand: {layout}, and `emotions` maps what it reads; data_manifest/README.md has every "
        "key, and `mser corpora check FILE.yaml` tries it",
    )  # fmt: skip


def _seen_in_names(paths: Sequence[PurePosixPath]) -> Iterator[str]:
    """Each part of the names that varies: where it stands, and its first values."""
    taken = set()
    for view in views_of(paths):
        if view.level in taken:
            continue
        taken.add(view.level)
        runs = sorted({(piece.token, piece.run) for piece in view.pieces if piece.token >= 0})
        for run in runs:
            places = [place for place, piece in enumerate(view.pieces) if (piece.token, piece.run) == run]
            one = Field(view, places[0], places[-1] + 1)
            if len(one.counts) > 1:
                yield f"{place_of(one)}: {one.examples}"

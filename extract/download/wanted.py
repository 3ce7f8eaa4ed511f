"""What is to be got for which corpora, as their definitions say."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from extract.download.partial import Remote
from mser.config import is_name
from mser.corpora import CorpusDefinition, corpora_of
from mser.corpora.fields import ARCHIVES, CHECKSUMS
from mser.errors import ConfigError

#: How a corpus is got, in words.
ACCESS_WORDS = {
    "direct": "an open link",
    "account": "an account of a data platform",
    "form": "a form or a mail to the authors",
    "paid": "for money",
    None: "unknown",
}


@dataclass(frozen=True)
class Wanted:
    """A file of a corpus.

    Attributes:
        name: under which it is kept, and placed if it is no archive.
        into: folder below the corpus's, with slashes; empty for that itself.
        origin: of a file that a record lists: the record, and the name or pattern that it was chosen by.
    """

    remote: Remote
    name: str
    into: str
    origin: str = field(default="", compare=False)


@dataclass(frozen=True)
class Record:
    """Files of an archive's record, as a definition wants them.

    Attributes:
        archive: one of :data:`~mser.corpora.fields.ARCHIVES`. number: of the record. files: names or patterns.
    """

    archive: str
    number: str
    files: tuple[str, ...]
    into: str

    def origin(self, name: str) -> str:
        """What a corpus folder's marker says of a file that was chosen by this name or pattern."""
        return f"{self} {name}"

    def __str__(self) -> str:
        return f"{self.archive} {self.number}"


def chosen_corpora(
    languages: Sequence[str], names: Sequence[str], known: Mapping[str, CorpusDefinition]
) -> list[CorpusDefinition]:
    """The definitions of the languages, or those of the names or aliases; of both, those that are in both.

    Raises:
        ConfigError: nothing is asked for, or a language or corpus is unknown.
    """
    if not languages and not names:
        raise ConfigError(
            "Which corpora are to be downloaded was not said.",
            field="LANG, CORPUS",
            expected="one or several languages or corpora",
            hint="such as `make download LANG=de` or `make download CORPUS=emodb`",
        )
    of_languages = corpora_of(languages, known) if languages else list(known.values())
    if not names:
        return of_languages
    found: dict[str, CorpusDefinition] = {}
    for name in names:
        named = [one for one in of_languages if name.lower() in _names(one)]
        if not named:
            every = sorted({spelled for one in of_languages for spelled in _names(one)})
            near = difflib.get_close_matches(name.lower(), every, 5) or every
            raise ConfigError(
                f"No corpus {name!r} is defined" + (f" for {' '.join(languages)}." if languages else "."),
                field="CORPUS",
                expected=f"one or several of: {' '.join(near)}",
                found=name,
            )
        found |= {one.name: one for one in named}
    return list(found.values())


def _names(definition: CorpusDefinition) -> set[str]:
    return {name.lower() for name in (definition.name, *definition.aliases)}


def wanted_of(definition: CorpusDefinition) -> list[Wanted]:
    """The files behind a definition's links; none unless its access is direct.

    Raises:
        ConfigError: a name or folder that leads elsewhere.
    """
    if definition.access != "direct":
        return []
    return [_wanted(definition, number, found) for number, found in enumerate(definition.downloads)]


def _wanted(definition: CorpusDefinition, number: int, found: Mapping[str, Any]) -> Wanted:
    key = ("downloads", str(number))
    url = str(found["url"])
    name = found.get("name", unquote(PurePosixPath(urlsplit(url).path).name))
    if not is_name(name):
        definition.fail((*key, "name"), "the name of a file; give it where the address has none", name)
    checksums = {kind: str(found[kind]) for kind in CHECKSUMS if kind in found}
    return Wanted(Remote(url, found["bytes"], checksums), name, _into(definition, key, found))


def _into(definition: CorpusDefinition, key: tuple[str, ...], found: Mapping[str, Any]) -> str:
    into = found.get("into", "")
    parts = str(into).split("/") if into else []
    if not isinstance(into, str) or any(not re.fullmatch(r"[\w -][\w. -]*", part) for part in parts):
        definition.fail((*key, "into"), "a folder below the corpus's, such as audio or audio/clean", into)
    return str(into)


def record_of(definition: CorpusDefinition) -> Record | None:
    """The record that a definition takes files of; none unless its access is direct.

    Raises:
        ConfigError: a folder that leads elsewhere.
    """
    found = definition.record
    if definition.access != "direct" or found is None:
        return None
    archive = next(archive for archive in ARCHIVES if archive in found)
    return Record(archive, found[archive], tuple(found["files"]), _into(definition, ("record",), found))


def is_downloaded(definition: CorpusDefinition) -> bool:
    """Whether there is anything to be downloaded for a corpus."""
    return bool(wanted_of(definition)) or record_of(definition) is not None


def merged(
    definitions: Sequence[CorpusDefinition], of_records: Mapping[Record, Sequence[Wanted]] | None = None
) -> list[Wanted]:
    """The files of corpora that share a folder, each once.

    Args:
        of_records: what records list; without it, the files of the definitions' own links alone.

    Raises:
        ConfigError: two differ in what they say of a file, or two files have one name.
    """
    by_place: dict[tuple[str, str], Wanted] = {}
    by_name: dict[str, Wanted] = {}
    for definition in definitions:
        record = record_of(definition)
        listed = (of_records or {}).get(record, ()) if record else ()
        own = [(("downloads", str(number)), one) for number, one in enumerate(wanted_of(definition))]
        for key, one in [*own, *((("record",), one) for one in listed)]:
            first = by_place.setdefault((one.remote.url, one.into), one)
            twin = by_name.setdefault(one.name.lower(), first)
            if first != one:
                definition.fail(key, f"what another definition of the same folder says: {first.remote}", one.remote)
            if twin.remote.url != one.remote.url:
                definition.fail((*key, "name"), "another name for each file of a folder", f"{one.name} twice")
    return list(by_place.values())


def by_hand(definition: CorpusDefinition, corpora: Path) -> str:
    """What to do for a corpus that is not downloaded here."""
    access = ACCESS_WORDS[definition.access]
    if definition.access == "direct":
        access += ", of which the definition names no file"
    facts = {
        "access": access,
        "licence": definition.licence,
        "page": definition.page or "not known",
        "get": definition.get.strip(),
        "folder": f"{corpora / definition.place} (the files must end up there)",
        "next": f"make manifest LANG={definition.language}",
    }
    lines = [f"  {name + ':':<10}{value}" for name, value in facts.items()]
    return "\n".join([f"{definition.name} is to be got by hand: {definition.title}", *lines])

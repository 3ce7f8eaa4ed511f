"""What a record of a public archive lists: names, sizes and checksums of its files, as the archive's API tells them.

The answer is a stranger's: every field that is used is looked at, and nothing is guessed.
"""

from __future__ import annotations

import fnmatch
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import quote, urlsplit

from extract.download.partial import Remote
from extract.download.wanted import Record, Wanted
from extract.download.web import Patience, fetch_json
from mser.config import is_name
from mser.corpora.fields import CHECKSUMS
from mser.errors import CorpusError

#: Address of an archive's records; the number of one follows.
BASES = {"zenodo": "https://zenodo.org/api/records", "figshare": "https://api.figshare.com/v2/articles"}
#: Bytes of an answer. A record of 500 files takes some 300 kB.
LIMIT = 4 * 2**20
#: figshare lists so many files with an article, and more only where its files are asked for.
FIGSHARE_FIRST, FIGSHARE_PAGE = 10, 1000
#: Names that are told where the wanted one is not among them.
SHOWN = 30


@dataclass(frozen=True)
class _Listed:
    """A file as a record lists it: where its facts stand in the answer, and the facts themselves, unchecked."""

    key: str
    name: str
    facts: Mapping[str, Any]


def files_of(record: Record, patience: Patience | None = None) -> list[Wanted]:
    """Asks the archive for the files of a record that a definition wants.

    Raises:
        CorpusError: it gives no answer, another form of answer than is known, or lacks a wanted file.
    """
    url = f"{BASES[record.archive]}/{record.number}"
    answer = _Answer(url, patience)
    listed = list(answer.zenodo() if record.archive == "zenodo" else answer.figshare())
    found: dict[str, Wanted] = {}
    for pattern in record.files:
        chosen = [one for one in listed if _fits(one.name, pattern)]
        if not chosen:
            answer.fail(repr(pattern), "a file of this name, or that fits this pattern", _names(listed))
        for one in chosen:
            if not is_name(one.name):
                answer.fail(one.key, "the name of a file", repr(one.name))
            remote = answer.of_zenodo(one) if record.archive == "zenodo" else answer.of_figshare(one)
            wanted = Wanted(remote, unicodedata.normalize("NFC", one.name), record.into, record.origin(pattern))
            found.setdefault(one.key, wanted)
    return list(found.values())


def _fits(name: str, pattern: str) -> bool:
    """As in a shell, patterns leave hidden files out. Accents may be written in two ways."""
    name, pattern = unicodedata.normalize("NFC", name), unicodedata.normalize("NFC", pattern)
    return name == pattern or (not name.startswith(".") and fnmatch.fnmatchcase(name, pattern))


def _names(listed: Sequence[_Listed]) -> str:
    names = ", ".join(repr(one.name) for one in listed[:SHOWN])
    return (names or "no file") + (f" and {len(listed) - SHOWN} more" if len(listed) > SHOWN else "")


class _Answer:
    """What an archive says of a record."""

    def __init__(self, url: str, patience: Patience | None) -> None:
        self.url, self._patience = url, patience
        self.content = self._ask(url)

    def fail(self, key: str, expected: object, found: object) -> NoReturn:
        """Raises CorpusError that names the address and the field."""
        raise CorpusError(
            "The record of an archive cannot be used.",
            file=self.url,
            field=key,
            expected=expected,
            found=found,
            hint="look at the corpus's page and get it by hand, or mend `record` in the definition",
        )

    def _ask(self, url: str) -> Any:
        if not _is_safe(url):
            self.fail("address", "https://", url)
        try:
            return json.loads(fetch_json(url, LIMIT, self._patience))
        except (ValueError, RecursionError) as error:
            if isinstance(error, CorpusError):
                raise
            self.fail("the whole answer", "JSON", error)

    def zenodo(self) -> Iterator[_Listed]:
        """The files of a record: a list in ``files``, or in InvenioRDM's own form ``files.entries``."""
        files = self._get("", self.content, "files", (list, dict))
        if isinstance(files, list):
            yield from self._each("files", files, "key")
            return
        entries = self._get("files", files, "entries", (list, dict))
        if isinstance(entries, list):
            yield from self._each("files.entries", entries, "key")
            return
        for name, facts in entries.items():
            key = f"files.entries.{name!r}"
            if not isinstance(facts, dict):
                self.fail(key, "a mapping", repr(facts)[:200])
            if facts.get("key", name) != name:
                self.fail(f"{key}.key", repr(name), repr(facts["key"])[:200])
            yield _Listed(key, name, facts)

    def of_zenodo(self, one: _Listed) -> Remote:
        """A file of a record, with the address of its content."""
        size = self._size(one)
        checksum = self._get(one.key, one.facts, "checksum", (str,))
        match = re.fullmatch(r"(\w+):([0-9a-f]+)", checksum)
        if not match or CHECKSUMS.get(match[1]) != len(match[2]):
            self.fail(f"{one.key}.checksum", "md5: and 32 hexadecimal digits", repr(checksum)[:200])
        return Remote(self._zenodo_url(one), size, {match[1]: match[2]})

    def _zenodo_url(self, one: _Listed) -> str:
        links = one.facts.get("links")
        entries = one.key.startswith("files.entries")
        if entries and links is None:
            return f"{self.url}/files/{quote(one.name, safe='')}/content"
        if not isinstance(links, dict):
            self.fail(f"{one.key}.links", "a mapping", repr(links)[:200])
        # Among entries, self is what is known of the file, and content the file.
        name = "content" if entries or "content" in links else "self"
        return self._address(f"{one.key}.links", links, name)

    def figshare(self) -> Iterator[_Listed]:
        """The files of an article."""
        files = self._get("", self.content, "files", (list,))
        if self.content.get("download_disabled") is True:
            self.fail("download_disabled", "files that may be downloaded", True)
        if len(files) >= FIGSHARE_FIRST:
            files = self._ask(f"{self.url}/files?page_size={FIGSHARE_PAGE}")
            if not isinstance(files, list) or len(files) >= FIGSHARE_PAGE:
                self.fail("files", f"a list of fewer than {FIGSHARE_PAGE} files", type(files).__name__)
        yield from self._each("files", files, "name")

    def of_figshare(self, one: _Listed) -> Remote:
        """A file of an article; its checksum is the one that figshare computed."""
        if one.facts.get("is_link_only"):
            self.fail(f"{one.key}.is_link_only", "a file that lies on figshare", "a link to another place")
        size = self._size(one)
        sums = {name: one.facts.get(name) or "" for name in ("computed_md5", "supplied_md5")}
        for name, digits in sums.items():
            if digits and not re.fullmatch(r"[0-9a-f]{32}", str(digits)):
                self.fail(f"{one.key}.{name}", "32 hexadecimal digits", repr(digits)[:200])
        if len(given := {str(digits) for digits in sums.values() if digits}) != 1:
            self.fail(f"{one.key}.computed_md5", "one checksum, as supplied_md5 says", sums)
        return Remote(self._address(one.key, one.facts, "download_url"), size, {"md5": given.pop()})

    def _each(self, place: str, entries: Sequence[Any], name: str) -> Iterator[_Listed]:
        for number, facts in enumerate(entries):
            key = f"{place}.{number}"
            yield _Listed(key, self._get(key, facts, name, (str,)), facts)

    def _get(self, place: str, facts: Any, name: str, kinds: tuple[type, ...]) -> Any:
        key = f"{place}.{name}" if place else name
        words = " or ".join({list: "a list", dict: "a mapping", str: "text", int: "a number"}[kind] for kind in kinds)
        if not isinstance(facts, dict) or name not in facts:
            self.fail(key, words, "nothing" if isinstance(facts, dict) else f"no mapping: {repr(facts)[:80]}")
        value = facts[name]
        if type(value) not in kinds:
            self.fail(key, words, repr(value)[:200])
        return value

    def _size(self, one: _Listed) -> int:
        size = self._get(one.key, one.facts, "size", (int,))
        if size < 1:
            self.fail(f"{one.key}.size", "the number of bytes, at least 1", size)
        return int(size)

    def _address(self, place: str, facts: Mapping[str, Any], name: str) -> str:
        url = str(self._get(place, facts, name, (str,)))
        if not _is_safe(url) or (self.url.startswith("https:") and not url.lower().startswith("https:")):
            self.fail(f"{place}.{name}", "an address that begins with https://", repr(url)[:200])
        return url


def _is_safe(url: str) -> bool:
    """Whether nobody on the way can change what an address gives: https, or this machine."""
    try:
        parts = urlsplit(url)
        here = (parts.scheme, parts.hostname) == ("http", "127.0.0.1")
        return here or (parts.scheme == "https" and bool(parts.hostname))
    except ValueError:
        return False

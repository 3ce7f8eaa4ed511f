"""The catalogue of definitions for people: chosen by what they hold, listed, and shown one by one."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from mser.corpora.definition import CorpusDefinition
from mser.corpora.fields import ACCESS, DEFECTS, SPEECH
from mser.errors import ConfigError
from mser.labels import load_labels
from mser.languages import CODE, fault_of, name_of

COLUMNS = [
    "name", "language", "emotions", "speakers", "utterances", "speech", "licence", "access", "defects", "there",
]  # fmt: skip
#: Letters of a label in a table.
SHORT = 3


@dataclass(frozen=True)
class Wanted:
    """What a corpus must have to be listed; nothing if all are wanted.

    Attributes:
        emotions: all of them. access, speech, defects: one of them.
        words: all of them, anywhere in names, titles, languages and emotions.
        there: its folder lies below ``MSER_CORPORA``.
    """

    languages: tuple[str, ...] = ()
    emotions: tuple[str, ...] = ()
    access: tuple[str, ...] = ()
    speech: tuple[str, ...] = ()
    defects: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    there: bool = False

    def __post_init__(self) -> None:
        for field, given, allowed in (
            ("--emotion", self.emotions, tuple(load_labels())),
            ("--access", self.access, ACCESS),
            ("--speech", self.speech, SPEECH),
            ("--defect", self.defects, tuple(DEFECTS)),
        ):
            for word in given:
                if word not in allowed:
                    near = get_close_matches(word, allowed, 1)
                    raise ConfigError(
                        "No corpus can have this.",
                        field=field,
                        expected=f"one or several of: {' '.join(allowed)}",
                        found=word,
                        hint=f"did you mean {near[0]}?" if near else None,
                    )
        for code in self.languages:
            if fault := fault_of(code):
                raise ConfigError("This is no language.", field="--language", expected=CODE, found=f"{code}: {fault}")

    def admits(self, one: CorpusDefinition, corpora: Path) -> bool:
        text = searchable(one)
        return (
            (not self.languages or one.language in self.languages)
            and set(self.emotions) <= set(emotions_of(one))
            and (not self.access or one.access in self.access)
            and (not self.speech or one.speech in self.speech)
            and (not self.defects or bool(set(self.defects) & set(defects_of(one))))
            and all(word.casefold() in text for word in self.words)
            and (not self.there or is_there(one, corpora))
        )


def searchable(one: CorpusDefinition) -> str:
    """All that a search looks at."""
    parts = (one.name, one.title, *one.aliases, one.language, name_of(one.language), *emotions_of(one))
    return "\n".join(map(str, parts)).casefold()


def emotions_of(one: CorpusDefinition) -> list[str]:
    """Its unified labels, in the order of labels.yaml."""
    return [label for label in load_labels() if label in set(one.emotions.values())]


def defects_of(one: CorpusDefinition) -> list[str]:
    """The kinds of its defects, each once."""
    return list(dict.fromkeys(defect["kind"] for defect in one.defects))


def is_there(one: CorpusDefinition, corpora: Path) -> bool:
    return (corpora / one.place).is_dir()


def is_demo(one: CorpusDefinition) -> bool:
    return one.name.startswith("demo_")


def in_order(definitions: Iterable[CorpusDefinition]) -> list[CorpusDefinition]:
    """By language and name, those of the demo last."""
    return sorted(definitions, key=lambda one: (is_demo(one), one.language, one.name))


def rows_of(definitions: Iterable[CorpusDefinition], corpora: Path, short: bool = True) -> list[list[str]]:
    """A row a corpus, under :data:`COLUMNS`."""
    found = []
    for one in definitions:
        labels = emotions_of(one)
        named = " ".join(label[:SHORT] if short else label for label in labels)
        found.append(
            [
                one.name,
                f"{one.language} {name_of(one.language)}" if short else one.language,
                f"{len(labels)}: {named}" if short else named,
                str(one.expected.get("speakers", "")),
                str(one.expected.get("utterances", "")),
                one.speech or "",
                one.licence,
                one.access or "",
                " ".join(defects_of(one)),
                "yes" if is_there(one, corpora) else "",
            ]
        )
    return found


def csv_text(rows: Sequence[Sequence[str]]) -> str:
    """The listing as CSV, labels in full."""
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    return target.getvalue()


def find(name: str, definitions: Mapping[str, CorpusDefinition]) -> list[CorpusDefinition]:
    """The corpora of a name or an alias, whatever its case; several where they share an alias.

    Raises:
        ConfigError: there is none; names near ones.
    """
    if name in definitions:
        return [definitions[name]]
    by_word: dict[str, list[CorpusDefinition]] = {}
    for one in definitions.values():
        for word in {one.name.casefold(), *(str(alias).casefold() for alias in one.aliases)}:
            by_word.setdefault(word, []).append(one)
    if name.casefold() in by_word:
        return by_word[name.casefold()]
    near = get_close_matches(name.casefold(), list(by_word), 3, 0.5)
    near += [word for word in sorted(by_word) if len(name) > 2 and name.casefold() in word and word not in near]
    names = sorted({one.name for word in near[:5] for one in by_word[word]})
    raise ConfigError(
        f"No corpus {name!r} is defined.",
        field="NAME",
        expected="a name or alias that `mser corpora` lists" + (f", such as {', '.join(names)}" if names else ""),
        found=name,
        hint="`mser corpora --search WORDS` looks for it; `mser corpora new FOLDER` proposes a definition",
    )


def sheet(one: CorpusDefinition, corpora: Path) -> Iterator[str]:
    """Everything that is known of a corpus, line by line."""
    yield f"{one.name}: {one.title}"
    facts = {
        "language": f"{one.language} ({name_of(one.language)})",
        "aliases": ", ".join(map(str, one.aliases)),
        "speech": one.speech,
        "licence": one.licence,
        "access": one.access,
        "page": one.page,
        "documented": one.documented,
        "citation": one.citation.strip(),
        "to get it": one.get.strip(),
        "folder": f"{corpora / one.place} ({'there' if is_there(one, corpora) else 'not there'})",
        "definition": str(one.source.path or ""),
    }
    for key, value in facts.items():
        if value:
            yield f"  {key + ':':<12}{value}"
    if (one.downloads or one.record) and one.access == "direct":
        yield f"  {'or run:':<12}make download CORPUS={one.name}"
    for download in one.downloads:
        sums = ", ".join(f"{kind} {download[kind]}" for kind in ("sha256", "md5") if kind in download)
        yield f"  {'download:':<12}{download['url']} ({download['bytes'] / 1e6:,.1f} MB, {sums})"
    if one.record:
        yield f"  {'record:':<12}" + "; ".join(f"{key} {value}" for key, value in one.record.items())
    yield from _layout(one)
    yield from _counts(one)
    for defect in one.defects:
        yield f"  {'defect:':<12}{defect['kind']} ({DEFECTS[defect['kind']]}): {defect['note']}"


def _layout(one: CorpusDefinition) -> Iterator[str]:
    if one.pattern is not None:
        yield f"  {'pattern:':<12}{one.pattern}"
    if one.folders is not None:
        yield f"  {'folders:':<12}{'/'.join(one.folders)}"
    if one.table is not None:
        yield f"  {'table:':<12}" + "; ".join(f"{key} {value}" for key, value in one.table.items())
    for key in ("skip", "speaker", "gender"):
        if getattr(one, key) is not None:
            yield f"  {key + ':':<12}{getattr(one, key)}"
    for path, read in one.examples.items():
        yield f"  {'example:':<12}{path}: " + ", ".join(f"{key} {value}" for key, value in read.items())
    labels = ", ".join(f"{source} {label or 'left out'}" for source, label in one.emotions.items())
    yield f"  {'emotions:':<12}{labels}"
    if one.genders:
        yield f"  {'genders:':<12}" + ", ".join(f"{source} {gender}" for source, gender in one.genders.items())
    if one.speakers:
        known = (f"{name} {about.get('gender', '?')}" for name, about in one.speakers.items())
        yield f"  {'speakers:':<12}" + ", ".join(known)


def _counts(one: CorpusDefinition) -> Iterator[str]:
    if one.expected:
        counts = [f"{one.expected[key]} {key}" for key in ("utterances", "speakers") if key in one.expected]
        counts += [f"{label} {number}" for label, number in (one.expected.get("emotions") or {}).items()]
        yield f"  {'published:':<12}" + ", ".join(counts)

"""What words, letters and numbers in names mean: emotions, genders, intensities."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import lru_cache

from mser.config import DATA_FOLDER, read_yaml
from mser.labels import load_labels

#: How much a way of reading is to be trusted; below a word nothing is certain.
TRUST = {"word": 1.0, "part": 0.9, "code": 0.8, "number": 0.6, "beginning": 0.7, "near": 0.5}
#: Most labels that codes may leave without a meaning, and least of a table's codes that must occur.
UNREAD_CODES, SEEN_CODES = 0.2, 0.55


@dataclass(frozen=True)
class Reading:
    """What a source label is taken for.

    Attributes:
        how: a key of :data:`TRUST`.
        source: the word, or the table of codes, that it was read by.
        languages: in which the word says so; empty where it says nothing about what is spoken.
    """

    label: str
    how: str
    source: str
    languages: frozenset[str] = frozenset()

    @property
    def certain(self) -> bool:
        return self.how == "word"


@dataclass(frozen=True)
class Codes:
    """Letters or numbers that mean something together."""

    language: str
    note: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Vocabulary:
    """All that is known: ``words`` as :func:`folded` gives them."""

    words: Mapping[str, Reading]
    codes: tuple[Codes, ...]
    genders: Mapping[str, str]
    intensities: frozenset[str]


@dataclass(frozen=True)
class Labelling:
    """The meaning of a set of source labels.

    Attributes:
        readings: source label -> its meaning; None where it has none.
        score: 0 to 1, how surely these are emotions.
        language: that is spoken, as far as words or codes say; empty otherwise.
    """

    readings: Mapping[str, Reading | None] = field(default_factory=dict)
    score: float = 0.0
    language: str = ""


def folded(text: str) -> str:
    """A word as words are compared: without case, accents of Latin letters, or the kind of separator.

    >>> folded("Dégoût"), folded("pleasant-surprise")
    ('degout', 'pleasant_surprise')
    """
    plain = unicodedata.normalize("NFKD", text.casefold())
    plain = "".join(one for one in plain if not "\u0300" <= one <= "\u036f")
    return re.sub(r"[\W_]+", "_", unicodedata.normalize("NFC", plain)).strip("_") or text


@lru_cache
def load_vocabulary() -> Vocabulary:
    """What ``labels.yaml`` and ``emotion_codes.yaml`` say."""
    words: dict[str, Reading] = {}
    for label, entry in read_yaml(DATA_FOLDER / "labels.yaml").items():
        # Levels are words of intensity, too, and no emotions.
        if not str(entry.get("note", "")).startswith("a level"):
            for word in (label, *entry.get("synonyms", ())):
                words[folded(word)] = Reading(label, "word", word)
    content = read_yaml(DATA_FOLDER / "emotion_codes.yaml")
    for language, entry in content.items():
        for word, label in entry.get("words", {}).items():
            known = words.get(folded(word))
            if known is None or (known.label == label and language != "en"):
                spoken = (known.languages if known else frozenset()) | ({language} - {"en"})
                words[folded(word)] = Reading(label, "word", word, spoken)
    for word in content["en"]["words"]:
        # What English has, too, says nothing about the language.
        words[folded(word)] = Reading(words[folded(word)].label, "word", word)
    codes = [
        Codes("" if language in ("any", "en") else language, one["note"], one["labels"])
        for language, entry in content.items()
        for one in entry.get("codes", ())
    ]
    genders = {folded(word): gender for gender, known in content["any"]["genders"].items() for word in known}
    return Vocabulary(words, tuple(codes), genders, frozenset(content["any"]["intensities"]))


def label_values(counts: Counter[str], language: str = "") -> Labelling:
    """What the values of a field mean, if they are emotions.

    Args:
        counts: value -> files.
        language: that is spoken, if known: its codes come first.
    """
    known = load_vocabulary()
    found = [_labelled(counts, {value: read_word(value) for value in counts})]
    found += [_coded(counts, codes, language) for codes in known.codes]
    return max(found, key=lambda one: one.score)


def read_word(value: str, near: bool = True) -> Reading | None:
    """What a word, its first or last word, its beginning, or one of nearly its letters means."""
    words, word = load_vocabulary().words, folded(value)
    if word in words:
        return words[word]
    if not near or len(word) < 3 or word.isdigit():
        return None
    parts = [part for part in word.split("_") if not part.isdigit()]
    meant = {words[part].label for part in parts if part in words}
    if len(parts) > 1 and len(meant) == 1 and (said := [part for part in (parts[0], parts[-1]) if part in words]):
        return replace(words[said[0]], how="part")
    longer = {words[one].label for one in words if one.startswith(word)}
    if len(longer) == 1:
        return Reading(longer.pop(), "beginning", word)
    inner = [one for one in words if len(one) > 4 and word.startswith(one)]
    close = inner or (get_close_matches(word, words, 1, 0.8) if len(word) > 3 else [])
    if not close:
        return None
    best = max(close, key=len)
    return Reading(words[best].label, "beginning" if inner else "near", words[best].source)


def words_in(text: str) -> Iterator[tuple[str, str]]:
    """Each emotion that a name tells in so many words: the word as written, and its label."""
    words = load_vocabulary().words
    for part in dict.fromkeys([text, *re.split(r"[\W\d_]+", text)]):
        if (read := words.get(folded(part))) is not None:
            yield part, read.label


def _coded(counts: Counter[str], codes: Codes, language: str) -> Labelling:
    exact = set(counts) & set(codes.labels)
    meant = codes.labels if exact else {code.swapcase(): label for code, label in codes.labels.items()}
    read = set(counts) & set(meant)
    kind = "number" if all(map(str.isdigit, meant)) else "code"
    unread = len(counts) - len(read)
    if len(read) < max(3, SEEN_CODES * len(meant)) or unread > UNREAD_CODES * len(counts):
        return Labelling()
    if kind == "number" and (unread or len(read) < len(meant)):
        # Numbers mean so many things that only the very same ones mean the same.
        return Labelling()
    # The table that all of these, and no others, are in; the exact case; the language that is spoken.
    trust = TRUST[kind] * len(read) / len(meant) - 0.05 * (not exact) + 0.05 * (codes.language == language != "")
    readings = {
        value: Reading(meant[value], "code", codes.note, frozenset({codes.language} - {""})) if value in meant else None
        for value in counts
    }
    return _labelled(counts, readings, trust)


def _labelled(counts: Counter[str], readings: dict[str, Reading | None], trust: float | None = None) -> Labelling:
    given = {value: one for value, one in readings.items() if one is not None}
    if len({one.label for one in given.values()}) < 2:
        return Labelling(readings)
    weight = sum(counts[value] * (trust or TRUST[one.how]) for value, one in given.items()) / counts.total()
    score = weight * (len(given) / len(readings)) ** 0.5
    spoken = Counter(language for one in given.values() for language in one.languages)
    language, votes = max(sorted(spoken.items()), key=lambda item: item[1], default=("", 0))
    tied = [one for one, number in spoken.items() if number == votes]
    return Labelling(readings, score, language if 2 * votes >= len(given) and len(tied) == 1 else "")


def gender_of(value: str) -> str | None:
    """female or male, if a word or letter says so."""
    return load_vocabulary().genders.get(folded(value))


def genders_of(values: set[str]) -> dict[str, str] | None:
    """Value -> gender, if the values are words or letters for both."""
    found = {value: gender for value in values if (gender := gender_of(value))}
    return found if len(found) == len(values) and set(found.values()) == {"female", "male"} else None


def nearest_label(value: str) -> str | None:
    """The unified label that a source label most likely means."""
    if (read := read_word(value)) is not None:
        return read.label
    close = get_close_matches(folded(value), list(load_labels()), 1, 0.6)
    return close[0] if close else None

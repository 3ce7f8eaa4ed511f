"""A corpus definition: how a folder of recordings becomes labelled utterances, as data.

It reads the labels out of file names (``pattern``), folder names (``folders``), a table (``table``), or a table and one
of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mser.config import fingerprint, read_yaml_lines
from mser.corpora.fields import Places, check_counts, check_layout, check_text, check_words
from mser.errors import ConfigError
from mser.labels import load_labels
from mser.languages import CODE, fault_of

if TYPE_CHECKING:
    from mser.corpora.reader import LabelReader


@dataclass(frozen=True)
class CorpusDefinition:
    """What is known of a corpus before any of its files is seen.

    At least one of ``pattern``, ``folders`` and ``table`` is given; ``pattern`` and ``folders`` not both.

    Attributes:
        name: of the corpus in manifests, caches and reports.
        language: ISO 639-1 code; ISO 639-3 where there is none.
        emotions: source label -> unified label; null for a label that is left out on purpose.
        folder: of the recordings below ``MSER_CORPORA``; the name if not given. Corpora of two languages that come as
            one folder are two definitions.
        pattern: matched in full on the path relative to the corpus folder, without suffix.
        folders: what each folder level names, from the corpus folder down.
        table: where labels stand in a table, see :class:`mser.corpora.reader.LabelReader`.
        skip: matched in full on the relative path with suffix: files that are no utterances of this corpus.
        speaker: of all recordings; or joined from groups of the pattern and columns of the table, such as
            ``{session}{sex}``. gender: of all speakers.
        genders: source gender -> female or male. speakers: speaker -> ``{gender: ...}``.
        expected: ``utterances``, ``speakers``, ``emotions`` as published.
        examples: documented path -> the fields that are read from it.
        speech: one of :data:`~mser.corpora.fields.SPEECH`, if known.
        licence: SPDX identifier where there is one. access: one of :data:`~mser.corpora.fields.ACCESS`.
        page: where it is described. get: what to do by hand.
        downloads: files behind open links: ``url``, ``bytes``, and a checksum (``sha256`` or ``md5``).
        record: files of an archive that tells their sizes and checksums itself: its number (``zenodo`` or
            ``figshare``) and ``files``, names or patterns of them; ``into``.
        defects: what is known to be wrong: ``kind`` (one of :data:`~mser.corpora.fields.DEFECTS`) and ``note``.
        aliases: other names of the corpus. documented: where the naming is written down.
    """

    name: str
    title: str
    language: str
    licence: str
    citation: str
    get: str
    emotions: Mapping[str, str | None]
    folder: str | None = None
    pattern: str | None = None
    folders: tuple[str, ...] | None = None
    table: Mapping[str, Any] | None = None
    skip: str | None = None
    speaker: str | None = None
    gender: str | None = None
    genders: Mapping[str, str] = field(default_factory=dict)
    speakers: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    expected: Mapping[str, Any] = field(default_factory=dict)
    examples: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    speech: str | None = None
    access: str | None = None
    page: str | None = None
    downloads: tuple[Mapping[str, Any], ...] = ()
    record: Mapping[str, Any] | None = None
    defects: tuple[Mapping[str, str], ...] = ()
    aliases: tuple[str, ...] = ()
    documented: str | None = None
    source: Places = field(default_factory=Places, compare=False, repr=False)

    def __post_init__(self) -> None:
        check_text(self)
        if fault := fault_of(self.language):
            self.fail("language", CODE, f"{self.language}: {fault}")
        unknown = {label: to for label, to in self.emotions.items() if to is not None and to not in load_labels()}
        for label, to in unknown.items():
            self.fail(("emotions", label), f"a label of labels.yaml: {', '.join(load_labels())}; or null", to)
        check_words(self)
        check_counts(self)
        check_layout(self)

    def fail(self, key: str | tuple[str, ...], expected: object, found: object) -> None:
        """Raises ConfigError that names file, line and key."""
        path = (key,) if isinstance(key, str) else key
        raise ConfigError(
            f"The definition of corpus {self.name!r} cannot be used.",
            file=self.source.of(path),
            field=".".join(path),
            expected=expected,
            found=found,
        )

    @classmethod
    def from_yaml(cls, path: Path) -> CorpusDefinition:
        """Reads one definition.

        Raises:
            ConfigError: unknown or missing keys, or values that do not fit; names file, line and key.
        """
        content, lines = read_yaml_lines(path)
        places = Places(path, lines)
        known = {item.name for item in fields(cls)} - {"source"}
        required = {one.name for one in fields(cls) if one.default is MISSING and one.default_factory is MISSING}
        keys = set(content) if isinstance(content, dict) else set()
        if keys - known or required - keys:
            unknown = sorted(map(str, keys - known))
            wrong = ", ".join(unknown or sorted(required - keys))
            raise ConfigError(
                f"A corpus definition has unknown keys: {wrong}." if unknown
                else f"A corpus definition lacks keys: {wrong}.",
                file=places.of((unknown[0],)) if unknown else path,
                field=wrong,
                expected=f"{', '.join(sorted(required))} and pattern, folders or table; besides "
                f"{', '.join(sorted(known - required))}",
                found=", ".join(sorted(map(str, keys))) or type(content).__name__,
            )  # fmt: skip
        for name in ("folders", "downloads", "defects", "aliases"):
            if isinstance(content.get(name), list):
                content[name] = tuple(content[name])
        return cls(**content, source=places)

    @property
    def place(self) -> str:
        """The folder of its recordings below ``MSER_CORPORA``."""
        return self.folder or self.name

    @property
    def fingerprint(self) -> str:
        """Hash of what decides the labels: nothing else of the file matters to a manifest."""
        names = ("name", "language", "emotions", "pattern", "folders", "table", "genders", "gender", "speakers")
        given = {name: _plain(getattr(self, name)) for name in names}
        # Later keys count where they are used, so that manifests of definitions without them stay valid.
        given |= {name: value for name in ("folder", "skip", "speaker") if (value := getattr(self, name)) is not None}
        return fingerprint(given)

    def reader(self, folder: Path) -> LabelReader:
        """A reader of the labels of the files below ``folder``."""
        from mser.corpora.reader import LabelReader

        return LabelReader(self, folder)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else list(value) if isinstance(value, tuple) else value

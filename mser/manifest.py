"""The manifest: one row an utterance, the only source of labels for every later stage."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path, PurePosixPath
from typing import Any

from mser.config import Workspace, read_json, write_json, write_text
from mser.errors import ManifestError

SCHEMA_VERSION = 1
#: Columns that are whole numbers.
COUNTS = ("num_samples", "sample_rate")


@dataclass(frozen=True)
class Utterance:
    """One usable recording.

    Attributes:
        utterance_id: ``corpus/path-without-suffix``.
        path: relative to the corpus folder.
        emotion: one of ``labels.yaml``; ``source_label`` as the corpus writes it.
        intensity, text_id, gender: empty where the corpus does not give them.
        num_samples, sample_rate: as stored in the file, a channel.
        sha256: of the decoded samples (:func:`mser.audio.pcm_sha256`).
    """

    utterance_id: str
    corpus: str
    language: str
    path: str
    speaker: str
    gender: str
    emotion: str
    source_label: str
    intensity: str
    text_id: str
    num_samples: int
    sample_rate: int
    sha256: str

    @property
    def seconds(self) -> float:
        return self.num_samples / self.sample_rate

    @property
    def speaker_id(self) -> str:
        """The speaker, unique across corpora."""
        return f"{self.corpus}/{self.speaker}"


@dataclass(frozen=True)
class Rejected:
    """A file that could not be used, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Manifest:
    """The utterances of one corpus.

    Attributes:
        corpus, language: as in the definition.
        utterances: sorted by utterance_id.
        definition: fingerprint of the corpus definition it was parsed with.
        folder: of the recordings below ``MSER_CORPORA``; the corpus's name if empty.
    """

    corpus: str
    language: str
    utterances: tuple[Utterance, ...]
    definition: str
    folder: str = ""

    @property
    def place(self) -> str:
        """The folder of the recordings below ``MSER_CORPORA``."""
        return self.folder or self.corpus

    @property
    def fingerprint(self) -> str:
        """Hash of the rows, 16 hex digits."""
        return hashlib.sha256(_to_csv(Utterance, self.utterances).encode()).hexdigest()[:16]

    def write(self, workspace: Workspace, rejected: Sequence[Rejected], notes: Sequence[str]) -> Path:
        """Writes ``<corpus>.csv``, ``<corpus>.rejected.csv`` and ``<corpus>.json``; returns the first."""
        path = workspace.manifests / f"{self.corpus}.csv"
        write_text(path.with_suffix(".rejected.csv"), _to_csv(Rejected, rejected))
        write_text(path, _to_csv(Utterance, self.utterances))
        write_json(
            path.with_suffix(".json"),
            {
                "schema_version": SCHEMA_VERSION,
                "corpus": self.corpus,
                "language": self.language,
                "definition": self.definition,
                **({"folder": self.folder} if self.folder else {}),
                "fingerprint": self.fingerprint,
                "utterances": len(self.utterances),
                "rejected": len(rejected),
                "notes": list(notes),
            },
        )
        return path

    @classmethod
    def read(cls, workspace: Workspace, corpus: str) -> Manifest:
        """Reads a manifest back.

        Raises:
            ManifestError: it is missing, damaged, of another schema, edited since it was written, or has rows that
                no scan writes, such as a path that leads out of the corpus folder.
        """
        path = workspace.manifests / f"{corpus}.csv"
        if not path.with_suffix(".json").is_file() or not path.is_file():
            raise ManifestError(
                f"There is no manifest of corpus {corpus!r}.", file=path, hint="run `make manifest` for its language"
            )
        head = _read_head(path.with_suffix(".json"))
        manifest = cls(corpus, head["language"], _read_rows(path), head["definition"], head.get("folder", ""))
        if manifest.fingerprint != head["fingerprint"]:
            raise ManifestError(
                "The manifest was changed after it was made.",
                file=path,
                field="fingerprint",
                expected=head["fingerprint"],
                found=manifest.fingerprint,
                hint="run `make manifest` again; to change labels, change the corpus definition",
            )
        seen: set[str] = set()
        for number, row in enumerate(manifest.utterances, start=1):
            fault = _fault_of(row, manifest, seen)
            if fault:
                raise ManifestError(
                    f"The manifest has a row that no scan writes: {fault}.",
                    file=path,
                    field=f"row {number}",
                    found=f"utterance {row.utterance_id!r}, path {row.path!r}",
                    hint="run `make manifest` again",
                )
            seen.add(row.utterance_id)
        return manifest


def read_manifests(workspace: Workspace, languages: Sequence[str] | None) -> list[Manifest]:
    """The manifests of the given languages, or of all.

    Raises:
        ManifestError: a language has none.
    """
    heads = [_read_head(path) for path in sorted(workspace.manifests.glob("*.json"))]
    present = sorted({head["language"] for head in heads})
    for language in languages or []:
        if language not in present:
            raise ManifestError(
                f"There is no manifest of language {language!r}.",
                file=workspace.manifests,
                found=f"manifests of: {' '.join(present) or 'no language'}",
                hint=f"run `make manifest LANG={language}`",
            )
    chosen = [head["corpus"] for head in heads if not languages or head["language"] in languages]
    if not chosen:
        raise ManifestError("There is no manifest yet.", file=workspace.manifests, hint="run `make manifest LANG=...`")
    return [Manifest.read(workspace, corpus) for corpus in chosen]


def _read_head(path: Path) -> dict[str, Any]:
    """What ``<corpus>.json`` says of a manifest."""
    head = read_json(path)
    if isinstance(head, dict) and head.get("schema_version") != SCHEMA_VERSION:
        raise ManifestError(
            "The manifest has another schema version.",
            file=path.with_suffix(".csv"),
            field="schema_version",
            expected=SCHEMA_VERSION,
            found=head.get("schema_version"),
            hint="run `make manifest` again",
        )
    names = ("corpus", "language", "definition", "fingerprint")
    texts = isinstance(head, dict) and all(isinstance(head.get(name), str) for name in names)
    if not texts or not isinstance(head.get("folder", ""), str) or leads_out(head.get("folder", "")):
        raise ManifestError(
            "The head of a manifest is damaged.", file=path, expected=", ".join(names), hint="run `make manifest` again"
        )
    if head["corpus"] != path.stem:
        raise ManifestError(
            "The head of a manifest is of another corpus.",
            file=path,
            field="corpus",
            expected=path.stem,
            found=head["corpus"],
            hint="run `make manifest` again",
        )
    return head


def _fault_of(row: Utterance, manifest: Manifest, seen: set[str]) -> str | None:
    """Why a row cannot come from a scan, if so; ``seen`` holds the ids of the rows before it."""
    if not all((row.utterance_id, row.path, row.speaker, row.emotion)):
        return "its utterance_id, path, speaker or emotion is empty"
    if row.utterance_id in seen:
        return "its utterance_id occurs twice"
    if leads_out(row.path):
        return "its path leads out of the corpus folder"
    if leads_out(row.speaker):
        return f"results are named after its speaker, and {row.speaker!r} leads out of their folder"
    if (row.corpus, row.language) != (manifest.corpus, manifest.language):
        return f"it is of corpus {row.corpus!r} and language {row.language!r}"
    if row.num_samples < 1 or row.sample_rate < 1:
        return "it has no samples"
    return None


def leads_out(text: str) -> bool:
    """Whether a path, or a speaker after whom results are named, leads out of the folder it is put below.

    >>> leads_out("f1/a.wav"), leads_out("f1/../../a.wav"), leads_out("/f1/a.wav")
    (False, True, True)
    """
    return "\0" in text or PurePosixPath(text).is_absolute() or ".." in PurePosixPath(text).parts


def _to_csv(kind: type, rows: Iterable[Utterance | Rejected]) -> str:
    return "".join(map(_csv_line, [[item.name for item in fields(kind)], *(asdict(row).values() for row in rows)]))


def _csv_line(values: Iterable[object]) -> str:
    # The writer quotes the line breaks that end its lines: names may hold both kinds, so both must be in its end.
    line = io.StringIO()
    csv.writer(line, lineterminator="\r\n").writerow(values)
    return line.getvalue().removesuffix("\r\n") + "\n"


def _read_rows(path: Path) -> tuple[Utterance, ...]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [
                Utterance(**{name: int(value) if name in COUNTS else value for name, value in row.items()})  # type: ignore
                for row in csv.DictReader(file)
            ]
    except (TypeError, KeyError, ValueError, csv.Error, OSError) as error:
        raise ManifestError(
            "The manifest has a damaged row.", file=path, found=error, hint="run `make manifest` again"
        ) from error
    return tuple(rows)

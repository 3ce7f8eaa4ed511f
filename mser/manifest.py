"""The manifest: one row an utterance, the only source of labels for every later stage."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

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
    """

    corpus: str
    language: str
    utterances: tuple[Utterance, ...]
    definition: str

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
            ManifestError: it is missing, of another schema, or edited since it was written.
        """
        path = workspace.manifests / f"{corpus}.csv"
        if not path.with_suffix(".json").is_file() or not path.is_file():
            raise ManifestError(
                f"There is no manifest of corpus {corpus!r}.", file=path, hint="run `make manifest` for its language"
            )
        head = read_json(path.with_suffix(".json"))
        if head.get("schema_version") != SCHEMA_VERSION:
            raise ManifestError(
                "The manifest has another schema version.",
                file=path,
                field="schema_version",
                expected=SCHEMA_VERSION,
                found=head.get("schema_version"),
                hint="run `make manifest` again",
            )
        manifest = cls(corpus, head["language"], _read_rows(path), head["definition"])
        if manifest.fingerprint != head["fingerprint"]:
            raise ManifestError(
                "The manifest was changed after it was made.",
                file=path,
                field="fingerprint",
                expected=head["fingerprint"],
                found=manifest.fingerprint,
                hint="run `make manifest` again; to change labels, change the corpus definition",
            )
        return manifest


def read_manifests(workspace: Workspace, languages: Sequence[str] | None) -> list[Manifest]:
    """The manifests of the given languages, or of all.

    Raises:
        ManifestError: a language has none.
    """
    heads = [read_json(path) for path in sorted(workspace.manifests.glob("*.json"))]
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


def _to_csv(kind: type, rows: Iterable[Utterance | Rejected]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, [item.name for item in fields(kind)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    return text.getvalue()


def _read_rows(path: Path) -> tuple[Utterance, ...]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [
                Utterance(**{name: int(value) if name in COUNTS else value for name, value in row.items()})  # type: ignore
                for row in csv.DictReader(file)
            ]
    except (TypeError, KeyError, ValueError) as error:
        raise ManifestError(
            "The manifest has a damaged row.", file=path, found=error, hint="run `make manifest` again"
        ) from error
    return tuple(rows)

"""Scans a corpus folder and makes its manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mser.audio import SUFFIXES, pcm_sha256, read_pcm
from mser.corpus import CorpusDefinition
from mser.errors import AudioError, CorpusError
from mser.manifest import Manifest, Rejected, Utterance


@dataclass(frozen=True)
class Scan:
    """What a corpus folder holds.

    Attributes:
        rejected: files that cannot be used, with reasons.
        left_out: utterances whose emotion the definition maps to null.
        warnings: differences from the published counts.
    """

    manifest: Manifest
    rejected: tuple[Rejected, ...]
    left_out: int
    warnings: tuple[str, ...]


def present(definitions: Sequence[CorpusDefinition], corpora: Path) -> list[CorpusDefinition]:
    """Those of one language's definitions whose folder is there.

    Raises:
        CorpusError: none is.
    """
    found = [definition for definition in definitions if (corpora / definition.name).is_dir()]
    if not found:
        places = "; ".join(f"{corpora / one.name}: {one.title}, from {one.get}" for one in definitions)
        raise CorpusError(
            f"No corpus of language {definitions[0].language!r} has a folder.",
            file=corpora,
            expected=f"at least one of: {places}",
            hint="put the recordings there, or set MSER_CORPORA to the folder that holds them",
        )
    return found


def scan(
    definition: CorpusDefinition, corpora: Path, advance: Callable[[int, int], None] = lambda done, total: None
) -> Scan:
    """Decodes every recording of a corpus once and lists it, or lists why it cannot be used.

    Args:
        corpora: the folder that holds the corpus's folder.
        advance: told the files done and the files in all.

    Raises:
        CorpusError: no usable file in the corpus's folder.
    """
    folder = corpora / definition.name
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    reader = definition.reader(folder)
    utterances: dict[str, Utterance] = {}
    rejected: list[Rejected] = []
    left_out = 0
    for done, path in enumerate(files, start=1):
        relative = PurePosixPath(path.relative_to(folder).as_posix())
        try:
            utterance = read_utterance(definition, reader.fields_of(relative), path, relative)
        except (CorpusError, AudioError) as error:
            rejected.append(Rejected(str(relative), error.what))
        else:
            if utterance is None:
                left_out += 1
            elif utterance.utterance_id in utterances:
                twin = utterances[utterance.utterance_id].path
                rejected.append(Rejected(str(relative), f"same name as {twin} in another format"))
            else:
                utterances[utterance.utterance_id] = utterance
        advance(done, len(files))
    if not utterances:
        raise CorpusError(
            f"No file of corpus {definition.name!r} can be used.",
            file=folder,
            expected=f"recordings named as {definition.source} says",
            found=f"{len(files)} audio files, {len(rejected)} rejected"
            + (f", the first: {rejected[0].path}: {rejected[0].reason}" if rejected else ""),
            hint=f"check the folder; get the corpus: {definition.get}",
        )
    rows = tuple(utterances[key] for key in sorted(utterances))
    manifest = Manifest(definition.name, definition.language, rows, definition.fingerprint)
    return Scan(manifest, tuple(rejected), left_out, tuple(differences(definition, rows)))


def read_utterance(
    definition: CorpusDefinition, found: dict[str, str], path: Path, relative: PurePosixPath
) -> Utterance | None:
    """One manifest row, or None where the definition leaves the emotion out.

    Raises:
        AudioError: the recording cannot be used.
    """
    emotion = definition.emotions[found["emotion"]]
    if emotion is None:
        return None
    samples, sample_rate = read_pcm(path)
    return Utterance(
        utterance_id=f"{definition.name}/{relative.with_suffix('')}",
        corpus=definition.name,
        language=definition.language,
        path=str(relative),
        speaker=found["speaker"],
        gender=found["gender"],
        emotion=emotion,
        source_label=found["emotion"],
        intensity=found.get("intensity", ""),
        text_id=found.get("text_id", ""),
        num_samples=len(samples),
        sample_rate=sample_rate,
        sha256=pcm_sha256(samples, sample_rate),
    )


def differences(definition: CorpusDefinition, rows: tuple[Utterance, ...]) -> Iterator[str]:
    """Sentences on how the counts differ from the published ones, naming what is missing."""
    expected = definition.expected
    if expected.get("utterances", len(rows)) != len(rows):
        yield f"{definition.name}: {len(rows)} utterances, published {expected['utterances']}"
    speakers = {row.speaker for row in rows}
    if expected.get("speakers", len(speakers)) != len(speakers):
        absent = sorted(set(definition.speakers) - speakers)
        which = f"; not seen: {', '.join(absent)}" if absent else f"; seen: {', '.join(sorted(speakers))}"
        yield f"{definition.name}: {len(speakers)} speakers, published {expected['speakers']}{which}"
    counts = Counter(row.emotion for row in rows)
    unlike = [
        f"{emotion} {counts[emotion]} of {number}"
        for emotion, number in expected.get("emotions", {}).items()
        if counts[emotion] != number
    ]
    if unlike:
        yield f"{definition.name}: other counts than published: {', '.join(unlike)}"

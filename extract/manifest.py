"""Scans a corpus folder and makes its manifest."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

from mser.audio import scan_pcm
from mser.cores import usable_cores
from mser.corpora import CorpusDefinition, LabelReader, corpora_of
from mser.corpora.check import far_off, misreadings
from mser.corpora.overlap import overlaps
from mser.corpora.recordings import Candidate, listing
from mser.errors import AudioError, CorpusError
from mser.manifest import Manifest, Rejected, Utterance

#: Decoding and hashing leave the interpreter to other threads; more than these wait for the disk.
SCAN_THREADS = min(8, usable_cores())
#: Groups of equal recordings that are named; more are counted.
SHOWN_DUPLICATES = 5


@dataclass(frozen=True)
class Scan:
    """What a corpus folder holds.

    Attributes:
        rejected: files that cannot be used, with reasons.
        left_out: utterances whose emotion the definition maps to null, and files that it skips.
        warnings: files of macOS that are left out, signs that the definition reads something wrong, differences from
            the published counts, and recordings that hold the same samples.
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
    found = [definition for definition in definitions if (corpora / definition.place).is_dir()]
    if not found:
        language, places = definitions[0].language, sorted({one.place for one in definitions})
        raise CorpusError(
            f"No corpus of language {language!r} has a folder.",
            file=corpora,
            expected=f"at least one of the folders {', '.join(places)}",
            hint=f"run `make download LANG={language}`, which gets what is open and says how to get the others; "
            "or set MSER_CORPORA to the folder that holds them",
        )
    return found


def to_scan(languages: Sequence[str], corpora: Path, known: dict[str, CorpusDefinition]) -> list[CorpusDefinition]:
    """The definitions whose folder is there: at least one for each language, or any if none is given.

    Raises:
        CorpusError: a language has no folder, or none of a known corpus is there; or another definition, of any
            language, reads the same files.
    """
    if languages:
        chosen = [one for language in languages for one in present(corpora_of([language], known), corpora)]
    else:
        chosen = _all_present(corpora, known)
    for one in chosen:
        require_own_files(one, corpora, known.values())
    return chosen


def require_own_files(one: CorpusDefinition, corpora: Path, others: Iterable[CorpusDefinition]) -> None:
    """Refuses a corpus whose files are those of another one, too: its speakers would have two names.

    Raises:
        CorpusError: names both definitions, and a file.
    """
    for overlap in overlaps(one, others, corpora):
        raise CorpusError(
            "Two definitions read the same recordings, which would be in training and in a test under two names.",
            file=overlap.first,
            expected="files of its own for each corpus",
            found=f"{overlap}; definitions {one.source} and {overlap.other.source}",
            hint="keep one of the definitions (one of your own takes the place of a shipped one whose name it has), "
            "let `pattern` or `skip` part the files, or remove a link that gives the folder a second name",
        )


def _all_present(corpora: Path, known: dict[str, CorpusDefinition]) -> list[CorpusDefinition]:
    there = [one for one in known.values() if (corpora / one.place).is_dir()]
    if not there:
        raise CorpusError(
            "No folder of a known corpus was found.",
            file=corpora,
            expected=f"one or several of: {' '.join(sorted(known))}",
            hint="set MSER_CORPORA to the folder that holds them, or run `make demo`",
        )
    return there


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
    folder = corpora / definition.place
    there = listing(folder)
    files = there.files
    reader = definition.reader(folder)
    utterances: dict[str, Utterance] = {}
    rejected: list[Rejected] = []
    left_out = 0
    with closing(_examined(files, definition, reader)) as examined:
        for done, found in enumerate(examined, start=1):
            if found is None:
                left_out += 1
            elif isinstance(found, Rejected):
                rejected.append(found)
            elif found.utterance_id in utterances:
                twin = utterances[found.utterance_id].path
                rejected.append(Rejected(found.path, f"same name as {twin} in another format"))
            else:
                utterances[found.utterance_id] = found
            advance(done, len(files))
    if not utterances:
        raise CorpusError(
            f"No file of corpus {definition.name!r} can be used.",
            file=folder,
            expected=f"recordings named as {definition.source} says",
            found=f"{len(files)} audio files, {len(rejected)} rejected"
            + (f", the first: {rejected[0].path}: {rejected[0].reason}" if rejected else ""),
            hint=f"`mser corpora check {definition.name}` says what is in the folder; get the corpus: {definition.get}",
        )
    rows = tuple(utterances[key] for key in sorted(utterances))
    manifest = Manifest(definition.name, definition.language, rows, definition.fingerprint, definition.folder or "")
    doubts = misreadings(reader, [file.relative for file in files if not file.fault])
    warnings = (
        *([f"{definition.name}: {there.remark}"] if there.remark else []),
        *(f"{definition.name}: {doubt}; `mser corpora check {definition.name}` says where" for doubt in doubts),
        *differences(definition, rows),
        *duplicates(definition.name, rows),
    )
    return Scan(manifest, tuple(rejected), left_out, warnings)


def _examined(
    files: Sequence[Candidate], definition: CorpusDefinition, reader: LabelReader
) -> Generator[Utterance | Rejected | None, None, None]:
    """What becomes of each file, in order; decoded in threads."""
    with ThreadPoolExecutor(SCAN_THREADS) as threads:
        try:
            yield from threads.map(partial(_examine, definition, reader), files)
        finally:
            # Ctrl-C waits for the files that are being decoded, not for all that are queued.
            threads.shutdown(wait=False, cancel_futures=True)


def _examine(definition: CorpusDefinition, reader: LabelReader, file: Candidate) -> Utterance | Rejected | None:
    if file.fault:
        return Rejected(file.printable, file.fault)
    if reader.skips(file.relative):
        return None
    try:
        return read_utterance(definition, reader.fields_of(file.relative), file.path, file.relative)
    except (CorpusError, AudioError) as error:
        return Rejected(file.printable, error.what)


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
    pcm = scan_pcm(path)
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
        num_samples=pcm.num_samples,
        sample_rate=pcm.sample_rate,
        sha256=pcm.sha256,
    )


def differences(definition: CorpusDefinition, rows: tuple[Utterance, ...]) -> Iterator[str]:
    """Sentences on how the counts differ from the published ones, naming what is missing."""
    expected = definition.expected
    if (number := expected.get("utterances", len(rows))) != len(rows):
        yield f"{definition.name}: {len(rows)} utterances, published {number}{_far_off(definition, len(rows), number)}"
    speakers = {row.speaker for row in rows}
    if (number := expected.get("speakers", len(speakers))) != len(speakers):
        absent = sorted(set(definition.speakers) - speakers)
        which = f"; not seen: {', '.join(absent)}" if absent else f"; seen: {', '.join(sorted(speakers))}"
        advice = _far_off(definition, len(speakers), number)
        yield f"{definition.name}: {len(speakers)} speakers, published {number}{which}{advice}"
    counts = Counter(row.emotion for row in rows)
    unlike = [
        f"{emotion} {counts[emotion]} of {number}"
        for emotion, number in expected.get("emotions", {}).items()
        if counts[emotion] != number
    ]
    if unlike:
        yield f"{definition.name}: other counts than published: {', '.join(unlike)}"


def _far_off(definition: CorpusDefinition, found: int, published: int) -> str:
    advice = far_off(found, published)
    return f"{advice} `mser corpora check {definition.name}` says what is read, and what is not" if advice else ""


def duplicates(name: str, rows: Sequence[Utterance]) -> Iterator[str]:
    """Sentences on recordings that hold the same samples, naming them, and what differs between their labels."""
    by_hash: dict[str, list[Utterance]] = defaultdict(list)
    for row in rows:
        by_hash[row.sha256].append(row)
    groups = [group for group in by_hash.values() if len(group) > 1]
    for group in groups[:SHOWN_DUPLICATES]:
        sentence = f"{name}: the same samples in {' and '.join(row.path for row in group)}"
        for field in ("speaker", "emotion"):
            values = sorted({getattr(row, field) for row in group})
            sentence += f"; {field}s {', '.join(values)}" if len(values) > 1 else ""
        yield sentence
    if len(groups) > SHOWN_DUPLICATES:
        yield f"{name}: the same samples in {len(groups) - SHOWN_DUPLICATES} more groups of recordings"


def copies(manifests: Sequence[Manifest]) -> Iterator[str]:
    """Sentences on recordings that several corpora hold, sample for sample."""
    first: dict[str, Utterance] = {}
    found: dict[tuple[str, str], list[tuple[Utterance, Utterance]]] = defaultdict(list)
    for row in (row for manifest in manifests for row in manifest.utterances):
        twin = first.setdefault(row.sha256, row)
        if twin.corpus != row.corpus:
            found[twin.corpus, row.corpus].append((twin, row))
    for (one, other), pairs in found.items():
        twin, row = pairs[0]
        yield (
            f"{one} and {other} share {len(pairs)} recordings sample for sample, such as {twin.utterance_id} and "
            f"{row.utterance_id}: do not train on one of them and test with the other"
        )

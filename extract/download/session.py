"""Downloads corpora, folder by folder; what fails for one does not keep the others from going on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

from extract.download.place import alone, put, there, there_of_record
from extract.download.record import files_of
from extract.download.transfer import require_room, transfer
from extract.download.wanted import Record, Wanted, by_hand, is_downloaded, merged, record_of
from extract.download.web import Patience
from mser.corpora import CorpusDefinition
from mser.errors import MserError

#: Below MSER_CORPORA: downloads on their way, a folder for each corpus folder.
DOWNLOADS = ".downloads"
#: Of what a corpus folder has.
THERE = "already there"
#: Files of a corpus that are listed one by one.
ROWS = 30

Progress = Callable[[str, str], AbstractContextManager[Callable[..., None]]]


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Attributes:
        corpus: names of the corpora that it belongs to. file: its name; empty where there is none.
    """

    corpus: str
    file: str
    bytes: int
    happened: str
    licence: str


@dataclass(frozen=True)
class Report:
    """What became of one folder: of each file; what to do by hand; remarks; and what failed."""

    outcomes: tuple[Outcome, ...]
    by_hand: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    failed: tuple[MserError, ...] = ()


@dataclass(frozen=True)
class Group:
    """Corpora that share a folder and are downloaded together.

    Attributes:
        wanted: the files that the definitions list; those of records come to them once the archive was asked.
    """

    folder: Path
    definitions: tuple[CorpusDefinition, ...]
    wanted: tuple[Wanted, ...]

    @property
    def names(self) -> str:
        return " ".join(one.name for one in self.definitions)

    @property
    def records(self) -> list[Record]:
        return list(dict.fromkeys(record for one in self.definitions if (record := record_of(one))))

    def outcome(self, one: Wanted | None, happened: str) -> Outcome:
        """What became of a file, or of what is known of none."""
        licences = "; ".join(dict.fromkeys(definition.licence for definition in self.definitions))
        name, size = ("", 0) if one is None else (one.name, one.remote.bytes)
        return Outcome(self.names, name, size, happened, licences)


def shortened(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """For people: many files of a corpus that fared alike are one line."""
    if len(outcomes) <= ROWS:
        return list(outcomes)
    alike: dict[str, list[Outcome]] = {}
    for one in outcomes:
        # How much of a file was there already is told of single files alone.
        happened = "downloaded" if one.happened.startswith("resumed") else one.happened
        alike.setdefault(happened, []).append(one)
    return [
        ones[0] if len(ones) == 1
        else replace(ones[0], file=f"{len(ones)} files", bytes=sum(one.bytes for one in ones), happened=happened)
        for happened, ones in alike.items()
    ]  # fmt: skip


def groups(chosen: Sequence[CorpusDefinition], corpora: Path) -> list[Group]:
    """The corpora that are downloaded, by folder.

    Raises:
        ConfigError: their definitions do not fit each other.
    """
    by_folder: dict[str, list[CorpusDefinition]] = {}
    for definition in chosen:
        if is_downloaded(definition):
            by_folder.setdefault(definition.place, []).append(definition)
    return [Group(corpora / place, tuple(ones), tuple(merged(ones))) for place, ones in by_folder.items()]


def download(
    chosen: Sequence[CorpusDefinition], corpora: Path, progress: Progress, patience: Patience | None = None
) -> Iterator[Report]:
    """Gets what can be got, a folder at a time, and says what to do for the others."""
    for group in groups(chosen, corpora):
        yield _download_group(group, corpora / DOWNLOADS / group.folder.name, progress, patience)
    for definition in chosen:
        if not is_downloaded(definition):
            yield _by_hand(definition, corpora)


def _by_hand(definition: CorpusDefinition, corpora: Path) -> Report:
    folder = corpora / definition.place
    if folder.is_dir() and any(folder.iterdir()):
        return Report((Outcome(definition.name, "", 0, f"{THERE}, by hand", definition.licence),))
    outcome = Outcome(definition.name, "", 0, "by hand", definition.licence)
    return Report((outcome,), by_hand=(by_hand(definition, corpora),))


def _download_group(group: Group, downloads: Path, progress: Progress, patience: Patience | None) -> Report:
    try:
        group = _with_records(group, patience)
    except MserError as error:
        return Report(tuple(group.outcome(one, "failed") for one in group.wanted or (None,)), failed=(error,))
    outcomes = {one: group.outcome(one, "failed") for one in group.wanted}
    failed: list[MserError] = []
    remarks: list[str] = []
    try:
        lacking = _lacking(group, outcomes)
        if lacking:
            with alone(downloads):
                # Another process may have placed them meanwhile.
                lacking = _lacking(group, outcomes)
                _require_room(downloads, lacking)
                failed = _get(group, lacking, downloads, outcomes, progress, patience)
                if not failed:
                    remarks = _put(group, lacking, downloads, progress)
                    for one in lacking:
                        (downloads / one.name).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # they are not empty, or gone
                downloads.rmdir()
                downloads.parent.rmdir()
    except MserError as error:
        failed.append(error)
        # What was got is not placed.
        outcomes |= {one: group.outcome(one, "failed") for one, found in outcomes.items() if found.happened != THERE}
    return Report(tuple(outcomes.values()), remarks=tuple(remarks), failed=tuple(failed))


def _with_records(group: Group, patience: Patience | None) -> Group:
    """The group with the files of its records; an archive is asked only for what the corpus folder lacks.

    Raises:
        MserError: the archive gives no answer, or none that can be used; or the folder is not to be touched.
    """
    if not group.records:
        return group
    there(group.folder, group.wanted)
    listed = {}
    for record in group.records:
        found = there_of_record(group.folder, record)
        listed[record] = files_of(record, patience) if found is None else found
    return replace(group, wanted=tuple(merged(group.definitions, listed)))


def _lacking(group: Group, outcomes: dict[Wanted, Outcome]) -> list[Wanted]:
    """The files that the corpus folder does not have yet; the others are noted."""
    known = there(group.folder, group.wanted)
    outcomes |= {one: group.outcome(one, THERE) for one in known}
    return [one for one in group.wanted if one not in known]


def _require_room(downloads: Path, lacking: Sequence[Wanted]) -> None:
    """Raises DiskError unless the disk holds the files, and as much again: what they unpack to is no smaller."""
    had = sum(path.stat().st_size for path in downloads.iterdir() if path.is_file())
    require_room(downloads, 2 * sum(one.remote.bytes for one in lacking) - had)


def _get(
    group: Group,
    lacking: Sequence[Wanted],
    downloads: Path,
    outcomes: dict[Wanted, Outcome],
    progress: Progress,
    patience: Patience | None,
) -> list[MserError]:
    """Transfers files; gives the errors of those that could not be."""
    failed = []
    for one in lacking:
        try:
            with progress(f"download {group.folder.name} {one.name}", "bytes") as advance:
                done = transfer(one.remote, downloads / one.name, patience, advance)
            happened = f"resumed at {done.resumed / 1e6:.1f} MB" if done.resumed else "downloaded"
            outcomes[one] = group.outcome(one, happened if done.fetched else "downloaded before")
        except MserError as error:
            outcomes[one] = group.outcome(one, "failed")
            failed.append(error)
    return failed


def _put(group: Group, lacking: Sequence[Wanted], downloads: Path, progress: Progress) -> list[str]:
    """Unpacks and places files; gives remarks."""
    about = {
        one.name: {"title": one.title, "licence": one.licence, "citation": one.citation, "page": one.page or ""}
        for one in group.definitions
    }
    with progress(f"unpack {group.folder.name}", "files") as advance:

        def tell(files: int) -> None:
            advance(files, None)

        nested = put(group.folder, [(one, downloads / one.name) for one in lacking], about, tell)
    if not nested:
        return []
    shown = ", ".join(nested[:5]) + (f" and {len(nested) - 5} more" if len(nested) > 5 else "")
    return [
        f"{group.names}: archives within the archive were left as they are: {shown}. If they hold recordings, unpack "
        f"them by hand in {group.folder}, then run `make manifest`."
    ]

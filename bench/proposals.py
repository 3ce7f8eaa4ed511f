"""What `mser corpora new` proposes for corpora that are defined already, beside their shipped definitions.

    python -m bench.proposals --trees tests

For each shipped definition whose corpus has a documented file list (``documented_trees_*.py``, written from the
documentation of corpora without a look at the definitions) an empty file of each name, and the documented tables, are
put into a folder whose name says nothing; the proposal is told the language alone. Prints a row for each list and the
tally.
"""

from __future__ import annotations

import runpy
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bench.common import scratch, table
from mser.corpora import CorpusDefinition, load_definitions
from mser.corpora.new import draft
from mser.corpora.outcome import Outcome, read_names
from mser.corpora.recordings import candidates
from mser.errors import MserError

RIGHT, READ, REFUSED, DIFFERING = "right", "right where read", "refused", "differing"
#: Of the ways to differ the one that the proposal's counts show.
UNREAD = "not read"


@dataclass(frozen=True)
class Compared:
    """A proposal beside the shipped definition.

    Attributes:
        verdict: ``right`` where emotion and speaker of every file are the shipped definition's, ``right where read``
            where they are but for files that the proposal does not read, as its counts say.
        files: in the list. said: what differs, or why no definition was proposed. questions: that the proposal asks.
    """

    name: str
    verdict: str
    files: int
    said: str
    questions: int = 0


@click.command()
@click.option("--trees", type=click.Path(exists=True, file_okay=False, path_type=Path), default="tests",
              show_default=True, help="Folder with documented_trees_*.py.")  # fmt: skip
@click.option("--only", multiple=True, help="A definition's name; may be given again.")
def main(trees: Path, only: tuple[str, ...]) -> None:
    """Propose a definition for each documented file list, and count how many are right."""
    definitions = load_definitions()
    lists, tables = documented(trees)
    found = []
    for name in sorted(only or lists):
        with scratch(None) as folder:
            corpus = laid_out(folder / "corpus", lists[name], tables.get(name, {}), definitions[name])
            found.append(compare(definitions[name], corpus))
    rows = [[one.name, one.verdict, str(one.files), str(one.questions or "–"), one.said] for one in found]
    print(table("Proposals beside the shipped definitions", ["corpus", "verdict", "files", "questions", ""], rows))
    tally = Counter(one.verdict for one in found)
    print(
        f"\nOf {len(found)}: "
        + ", ".join(f"{tally[verdict]} {verdict}" for verdict in (RIGHT, READ, REFUSED, DIFFERING))
    )


def documented(folder: Path) -> tuple[dict[str, list[str]], dict[str, dict[str, str]]]:
    """File lists and tables (place -> text) by the definition that reads them."""
    lists: dict[str, Any] = {}
    tables: dict[str, Any] = {}
    for path in sorted(folder.glob("documented_trees_*.py")):
        content = runpy.run_path(str(path))
        lists |= content["TREES"]
        tables |= content["TABLES"]
    made = ({name: one() if callable(one) else one for name, one in each.items()} for each in (lists, tables))
    return next(made), next(made)


def laid_out(folder: Path, paths: list[str], tables: Mapping[str, str], definition: CorpusDefinition) -> Path:
    """The folder with an empty file for each path, and the tables: nothing is decoded."""
    encoding = (definition.table or {}).get("encoding", "utf-8")
    for place in (*paths, *tables):
        path = folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(tables.get(place, ""), encoding=encoding)
    return folder


def compare(definition: CorpusDefinition, folder: Path) -> Compared:
    """What is proposed for a folder that the definition reads."""
    paths = [one.relative for one in candidates(folder)]
    shipped = read_names(definition.reader(folder), paths)
    try:
        proposal = draft(folder, language=definition.language)
    except MserError as error:
        return Compared(definition.name, REFUSED, len(paths), error.what)
    counts = differences(shipped, proposal.outcome)
    verdict = RIGHT if not counts else READ if list(counts) == [UNREAD] else DIFFERING
    said = ", ".join(f"{number} {what}" for what, number in counts.items())
    return Compared(definition.name, verdict, len(paths), said, len(proposal.questions))


def differences(shipped: Outcome, proposed: Outcome) -> dict[str, int]:
    """How two readings of the same files differ: what -> files; empty where they do not.

    Speakers are compared as groups of files: what they are called says nothing.
    """
    ours, theirs = ({str(one.path): one for one in each.utterances} for each in (shipped, proposed))
    both = sorted(ours.keys() & theirs.keys())
    speakers = [(ours[path].fields["speaker"], theirs[path].fields["speaker"]) for path in both]
    pairs = set(speakers)
    often = [Counter(pair[side] for pair in pairs) for side in (0, 1)]
    counts = {
        UNREAD: len(ours.keys() - theirs.keys()),
        "read besides": len(theirs.keys() - ours.keys()),
        "of another emotion": sum(ours[path].emotion != theirs[path].emotion for path in both),
        f"of other speakers ({len(often[1])} for {len(often[0])})": sum(
            often[0][one] > 1 or often[1][other] > 1 for one, other in speakers
        ),
    }
    return {what: number for what, number in counts.items() if number}


if __name__ == "__main__":
    main()

"""The commands of ``mser corpora``: what corpora there are, and a definition for one of one's own."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from mser.config import write_text
from mser.corpora import describe
from mser.corpora.catalogue import add, definition_files, load_definitions
from mser.corpora.check import Checked, Finding, check, some
from mser.corpora.definition import CorpusDefinition
from mser.corpora.new import Draft, draft, write_draft
from mser.corpora.page import with_catalogue
from mser.errors import MserError
from mser.languages import name_of
from mser.terminal import MserGroup, Words, console, corpora_option, definitions_option, print_table

COLOURS = {"error": "red", "warning": "yellow", "fact": None}


def words(option: str, name: str, help: str) -> Any:
    return click.option(option, name, type=Words(), default="", help=help)


@click.group("corpora", cls=MserGroup, invoke_without_command=True)
@words("--language", "languages", 'Of these languages, e.g. "de it".')
@words("--emotion", "emotions", "With all of these emotions (unified labels).")
@words("--access", "access", "Got this way: direct, account, form, paid.")
@words("--speech", "speech", "acted, elicited, spontaneous, synthetic, mixed.")
@words("--defect", "defects", "With a defect of one of these kinds, e.g. text-label.")
@words("--search", "search", "With these words in names, titles, languages or emotions.")
@click.option("--there", is_flag=True, help="Whose folder is there.")
@click.option("--csv", "target", type=click.Path(dir_okay=False, path_type=Path), help="Also write the list there.")
@definitions_option
@corpora_option
@click.pass_context
def corpora_group(
    context: click.Context,
    languages: tuple[str, ...],
    emotions: tuple[str, ...],
    access: tuple[str, ...],
    speech: tuple[str, ...],
    defects: tuple[str, ...],
    search: tuple[str, ...],
    there: bool,
    target: Path | None,
    definitions: Path | None,
    corpora: Path,
) -> None:
    """List the corpora that mser knows, or one of the commands below."""
    if context.invoked_subcommand is not None:
        return
    wanted = describe.Wanted(languages, emotions, access, speech, defects, search, there)
    known = load_definitions(definitions)
    chosen = [one for one in describe.in_order(known.values()) if wanted.admits(one, corpora)]
    if target is not None:
        write_text(target, describe.csv_text(describe.rows_of(chosen, corpora, short=False)))
    _print_table(
        f"{len(chosen)} of {len(known)} corpora; there: in {corpora}",
        describe.COLUMNS,
        describe.rows_of(chosen, corpora),
    )
    if not chosen:
        console.print("None is like that: leave out an option. `mser corpora new FOLDER` proposes one of your own.")


def _print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    # Brackets are text here, not colours.
    print_table(escape(title), columns, [[escape(cell) for cell in row] for row in rows])


@corpora_group.command("show")
@click.argument("name")
@definitions_option
@corpora_option
def show_command(name: str, definitions: Path | None, corpora: Path) -> None:
    """Print everything that is known of the corpus NAME (or of those with that alias)."""
    for number, one in enumerate(describe.find(name, load_definitions(definitions))):
        if number:
            click.echo()
        for line in describe.sheet(one, corpora):
            click.echo(line)


@corpora_group.command("page")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@definitions_option
def page_command(file: Path, definitions: Path | None) -> None:
    """Write the catalogue into the Markdown page FILE, behind its line <!-- catalogue -->."""
    page = file.read_text(encoding="utf-8") if file.exists() else ""
    write_text(file, with_catalogue(page, load_definitions(definitions).values()))
    console.print(f"Catalogue written: {file}", markup=False, soft_wrap=True)


@corpora_group.command("splits")
@click.option(
    "--published",
    envvar="PUBLISHED",
    required=True,
    type=click.Path(path_type=Path),
    help="A copy of the EmoBox project, or its folder data (PUBLISHED).",
)
@click.option("--messages", is_flag=True, help="Also what the audit says beside the verdict.")
@definitions_option
@corpora_option
def splits_command(published: Path, messages: bool, definitions: Path | None, corpora: Path) -> None:
    """Audit published folds by the names they list: which of them have the same speakers in training and test."""
    from mser.corpora.splits import emobox_verdicts  # the audit loads numpy

    found = emobox_verdicts(published, load_definitions(definitions), corpora)
    _print_table(
        f"EmoBox's folds in {published}, audited by names",
        ["corpus", "definitions", "folds", "names read", "tested", "verdict"],
        [
            [one.corpus, " ".join(one.definitions), str(one.folds), f"{one.read} of {one.names}", str(one.tested),
             one.verdict]
            for one in found
        ],
    )  # fmt: skip
    for one in found if messages else []:
        for message in one.messages:
            click.echo(f"{one.corpus}: {message}")


@corpora_group.command("check")
@click.argument("names", nargs=-1)
@definitions_option
@corpora_option
def check_command(names: tuple[str, ...], definitions: Path | None, corpora: Path) -> None:
    """Check definitions, given by NAME or as FILE.yaml, and their folders by name alone; all if none is given."""
    files = definition_files(definitions)
    known: dict[str, CorpusDefinition] = {}
    faulty = False
    broken: dict[Path, MserError] = {}
    for file in files:
        try:
            add(known, CorpusDefinition.from_yaml(file))
        except MserError as error:
            broken[file] = error
    chosen = list(known.values()) if not names else _chosen(names, known, broken)
    for fault in broken.values():
        # A broken definition keeps any language from being scanned, so it is always said.
        faulty = True
        click.echo(click.style(f"error: {fault}", fg="red"))
    for one in chosen:
        others = [other for other in known.values() if other.name != one.name]
        found = check(one, corpora, others)
        faulty |= found.faulty
        _print_check(found)
    if faulty:
        raise SystemExit(1)


def _chosen(
    names: Sequence[str], known: Mapping[str, CorpusDefinition], broken: dict[Path, MserError]
) -> list[CorpusDefinition]:
    found: list[CorpusDefinition] = []
    for name in names:
        file = Path(name)
        if file.suffix in (".yaml", ".yml") or file.is_file():
            try:
                found.append(CorpusDefinition.from_yaml(file))
            except MserError as error:
                broken[file] = error
        elif not any(other.stem == name for other in broken):
            found += describe.find(name, known)
    return found


def _print_check(found: Checked) -> None:
    numbers = Counter(one.severity for one in found.findings)
    counts = ", ".join(
        f"{numbers[kind]} {kind}s" if numbers[kind] != 1 else f"1 {kind}" for kind in ("error", "warning")
    )
    definition, outcome = found.definition, found.outcome
    if outcome is None:
        number = len(definition.examples)
        tried = f"{number} examples need its table" if definition.table else f"{number} examples tried"
        read = f"no folder {definition.place}, so the definition alone, {tried}"
    else:
        read = (
            f"{found.files} files, {len(outcome.utterances)} utterances, {len(outcome.speakers)} speakers, "
            f"{len(outcome.emotions)} emotions, {len(outcome.left_out) + len(outcome.skipped)} left out"
        )
    click.echo(f"{definition.name}: {read}: {counts}")
    for one in found.findings:
        _print_finding(one)


def _print_finding(one: Finding) -> None:
    where = f" ({one.place})" if one.place else ""
    click.echo(click.style(f"  {one.severity}: {one.sentence}{where}", fg=COLOURS[one.severity]))


@corpora_group.command("new")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", default="", help="Of the corpus; the folder's if not given.")
@click.option("--language", default="", help="That is spoken (ISO 639); guessed where the labels' words tell it.")
@click.option("--emotion", default="", help='Where it stands: a column of a table, or "folder", "name, part 2 of 3".')
@click.option("--licence", default="", help="Terms of use, an SPDX identifier where there is one.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="File; <MSER_DEFINITIONS>/<name>.yaml.")
@definitions_option
@corpora_option
def new_command(
    folder: Path,
    name: str,
    language: str,
    emotion: str,
    licence: str,
    out: Path | None,
    definitions: Path | None,
    corpora: Path,
) -> None:
    """Propose a definition for the recordings in FOLDER, by their names and tables beside them."""
    found = draft(folder, name, language, licence, emotion)
    if out is None:
        out = (definitions or Path("definitions")) / f"{found.definition.name}.yaml"
    write_draft(found, out)
    _print_draft(found)
    click.echo(f"\nWritten: {out}")
    for line in _next_steps(found.definition, folder, out, corpora, load_definitions()):
        click.echo(line)


def _print_draft(found: Draft) -> None:
    outcome, readings = found.outcome, found.proposal.labelling.readings
    for key in ("pattern", "table"):
        if (layout := getattr(found.definition, key)) is not None:
            click.echo(f"{key}: {layout}")
    _print_table(
        "What is read", ["field", "where", "values"], [[r.name, r.where, r.values] for r in found.proposal.roles]
    )
    labels = [
        f"{value} {read.label if read else 'left out (?)'}{'' if read is None or read.certain else ' (guess)'}"
        for value, read in sorted(readings.items())
    ]
    click.echo(f"Labels: {', '.join(labels)}")
    emotions = ", ".join(f"{label} {number}" for label, number in sorted(outcome.emotions.items()))
    language = name_of(found.definition.language)
    click.echo(
        f"This gives, of {found.files} files: {len(outcome.utterances)} utterances in {language}, "
        f"{len(outcome.speakers)} speakers; {emotions}"
    )
    if outcome.unlike:
        unlike = some([f"{path} ({reason})" for path, reason in outcome.unlike])
        click.echo(f"{len(outcome.unlike)} files are not read: {unlike}")
    if outcome.left_out or outcome.unmapped:
        click.echo(f"{len(outcome.left_out) + outcome.unmapped.total()} files have a label without a meaning.")
    for remark in found.remarks:
        click.echo(remark)
    click.echo("\nWhat names cannot tell:")
    for number, question in enumerate(found.questions, start=1):
        click.echo(f"  {number}. {question.key}: {question.text}")


def _next_steps(
    one: CorpusDefinition, folder: Path, out: Path, corpora: Path, shipped: Mapping[str, CorpusDefinition]
) -> list[str]:
    steps = ["Next: answer the questions in it, then"]
    above = folder.absolute().parent
    if above.resolve() != corpora.resolve():
        place = _quoted(corpora / one.place)
        steps.append(f"  put the folder, or a link to it, at {place}, or set MSER_CORPORA={_quoted(above)}")
    # What was given as an option has to be given again.
    own = corpora != Path(os.environ.get("MSER_CORPORA") or "corpora")
    steps.append(f"  mser corpora check {_quoted(out)}" + (f" --corpora {_quoted(corpora)}" if own else ""))
    where = f" MSER_CORPORA={_for_make(corpora)}" if own else ""
    steps.append(f"  make manifest LANG={one.language} MSER_DEFINITIONS={_for_make(out.parent)}{where}")
    if one.name in shipped:
        steps.append(f"mser ships a definition named {one.name}: yours takes its place. --name gives it another.")
    return steps


def _quoted(path: Path) -> str:
    """A path as a shell reads it back."""
    return shlex.quote(str(path))


def _for_make(path: Path) -> str:
    """A path as make reads it back from a shell: it takes $ for the beginning of a variable."""
    return shlex.quote(str(path).replace("$", "$$"))

"""The command that downloads corpora."""

from __future__ import annotations

from pathlib import Path

import click

from mser.corpora import load_definitions
from mser.terminal import Words, console, definitions_option, print_table, progress_bar

COLUMNS = ["corpus", "file", "MB", "what happened", "licence"]


@click.command("download")
@click.option("--language", "languages", type=Words(), default="", help='Languages, e.g. "de it".')
@click.option(
    "--corpus", "names", envvar="CORPUS", type=Words(), default="", help="Corpora by name or alias, e.g. emodb."
)
@click.option(
    "--corpora",
    envvar="MSER_CORPORA",
    default="corpora",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder that gets a folder for each corpus (MSER_CORPORA).",
)
@definitions_option
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Seconds that a server may be silent before it is asked again.",
)
def download_command(
    languages: tuple[str, ...], names: tuple[str, ...], corpora: Path, definitions: Path | None, timeout: float
) -> None:
    """Download the corpora that lie behind open links; say what to do by hand for the others."""
    # These take a while to import, and the other commands do not need them.
    from extract.download.session import download, groups, shortened
    from extract.download.wanted import chosen_corpora
    from extract.download.web import Patience

    chosen = chosen_corpora(languages, names, load_definitions(definitions))
    for group in groups(chosen, corpora):
        for one in group.definitions:
            megabytes = sum(wanted.remote.bytes for wanted in group.wanted) / 1e6
            sizes = [f"{megabytes:.1f} MB"] if group.wanted else []
            sizes += [f"files of {record}" for record in group.records]
            click.echo(f"{one.name}: {one.title}, {' and '.join(sizes)}. Licence: {one.licence}")
    reports = []
    for report in download(chosen, corpora, progress_bar, Patience(timeout=timeout)):
        reports.append(report)
        for error in report.failed:
            console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        for remark in report.remarks:
            console.print(f"warning: {remark}", style="yellow", markup=False, soft_wrap=True)
    rows = [
        [one.corpus, one.file or "-", f"{one.bytes / 1e6:.1f}" if one.file else "-", one.happened, one.licence]
        for report in reports
        for one in shortened(report.outcomes)
    ]
    print_table(f"Corpora in {corpora}", COLUMNS, rows)
    click.echo("To be cited:")
    for definition in chosen:
        click.echo(f"  {definition.name}: {' '.join(definition.citation.split())}")
    for report in reports:
        for text in report.by_hand:
            click.echo(f"\n{text}")
    if any(report.failed for report in reports):
        raise SystemExit(1)

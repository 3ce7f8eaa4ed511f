"""What all command lines of the project share: how errors end them, options, progress bars, tables."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from mser.config import Workspace
from mser.errors import MserError

console = Console(stderr=True, highlight=False)


class MserGroup(click.Group):
    """A group whose commands end with a message and exit code 1 where a user can mend the error."""

    def make_context(self, *arguments: Any, **options: Any) -> click.Context:
        with _ending_with_a_message():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _ending_with_a_message():
            return super().invoke(ctx)


@contextmanager
def _ending_with_a_message() -> Iterator[None]:
    try:
        yield
    except MserError as error:
        console.print(f"error: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("Stopped. What was finished is kept; the same command goes on from there.")
        sys.exit(130)


class Words(click.ParamType):
    """One or several words in one value, separated by spaces or commas, as make hands them over."""

    name = "words"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        return tuple(dict.fromkeys(value.replace(",", " ").split()))


home_option = click.option(
    "--home",
    "workspace",
    envvar="MSER_HOME",
    default="work",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    callback=lambda ctx, param, value: Workspace(value),
    help="Folder of everything mser writes (MSER_HOME).",
)
corpora_option = click.option(
    "--corpora",
    envvar="MSER_CORPORA",
    default="corpora",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder with a folder for each corpus (MSER_CORPORA); only read.",
)
definitions_option = click.option(
    "--definitions",
    envvar="MSER_DEFINITIONS",
    type=click.Path(path_type=Path),
    default=None,
    help="Folder of own corpus definitions (MSER_DEFINITIONS).",
)
languages_option = click.option(
    "--language",
    "languages",
    type=Words(),
    default="",
    help='Languages, e.g. "de it"; all with a manifest if not given.',
)
upstreams_option = click.option(
    "--upstreams",
    envvar="UPSTREAMS",
    type=Words(),
    default="acoustic",
    show_default=True,
    help="Upstreams: acoustic names, registry names, hub ids or folders.",
)


@contextmanager
def progress_bar(title: str, unit: str = "", rate: bool = False) -> Iterator[Callable[..., None]]:
    """A progress bar on standard error; yields ``advance(done, total, note="")``.

    With ``rate`` it yields ``advance(done, total, seconds)``, and notes the seconds of audio done in a second.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(title, total=None, note="")
        began = time.monotonic()

        def advance(done: int, total: int, note: str | float = "") -> None:
            if rate:
                note = f"{float(note or 0) / (time.monotonic() - began):.1f} x real time"
            progress.update(task, completed=done, total=total, note=note)

        yield advance


def print_table(title: str, columns: list[str], rows: list[list[str]], file: TextIO | None = None) -> None:
    """A table on standard output or in a file, the first column left and the others right aligned."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    target = file or sys.stdout
    Console(file=target, highlight=False, width=None if target.isatty() else 140).print(table)

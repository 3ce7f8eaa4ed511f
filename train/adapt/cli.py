"""The command ``adapt``."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from mser.config import Workspace
from mser.errors import ConfigError
from mser.mapping import EMOTIONS, is_path, load_mapping, mapping_names
from mser.terminal import Words, console, home_option, languages_option, print_table, progress_bar
from train.adapt.held_out import Kept
from train.adapt.page import calibration_tables, facts, for_use, near, notes, overtaking, score_tables, write_page
from train.adapt.scores import summary
from train.adapt.study import ALL, Adaptation, adapt_block
from train.adapt.target import MODEL, TO, model_path, runs_to_begin_with
from train.adapt.use import model_for_use
from train.options import device_of, placing_options
from train.workers import Placing, run_blocks


class Shots(Words):
    """Numbers of labelled clips; ``all`` for every one there is."""

    name = "shots"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        if isinstance(value, tuple):
            return value
        words = super().convert(value, param, ctx)
        if not all(word == ALL or (word.isdecimal() and int(word)) for word in words):
            self.fail(f"expected whole numbers above 0 such as 1 5 10, or all; found {value!r}", param, ctx)
        numbers = sorted({int(word) for word in words if word != ALL})
        return (*numbers, *([None] if ALL in words else []))


@click.command("adapt")
@languages_option
@click.option(
    "--run", envvar="RUN", default="", help="A run's name or folder, or a model file; the only run if not given."
)
@click.option("--shots", envvar="SHOTS", type=Shots(), default="1 5 10 20 all", show_default=True,
              help="Labelled clips an emotion; all: every one of the speakers that are not tested.")  # fmt: skip
@click.option("--draws", envvar="DRAWS", type=click.IntRange(min=1), default=10, show_default=True,
              help="Of halves of the speakers, and of labelled clips.")  # fmt: skip
@click.option("--mapping", envvar="MAPPING", default="emotions", show_default=True,
              help=f"What emotions count as: one of {' '.join(mapping_names())}, or a YAML file.")  # fmt: skip
@click.option("--device", envvar="DEVICE", default="auto", show_default=True, help="auto, cpu or cuda.")
@click.option("--placement", envvar="PLACEMENT", default="auto", hidden=True)
@placing_options
@home_option
def adapt_command(
    languages: tuple[str, ...],
    run: str,
    shots: tuple[int | None, ...],
    draws: int,
    mapping: str,
    device: str,
    placement: str,
    placing: Placing,
    workspace: Workspace,
) -> None:
    """Take a trained run to a new language: zero-shot, without labels, with k labelled clips, and from scratch."""
    if len(languages) != 1:
        raise ConfigError(
            "One language is adapted to at a time.",
            field="LANG",
            expected="one language that the run was not trained on",
            found=" ".join(languages) or "none",
        )
    model = model_path(workspace, Path(run or _only_run(workspace))).absolute()
    folder = _folder(workspace, model, languages[0], mapping)
    if is_path(mapping):
        mapping = str(Path(mapping).absolute())
    adaptation = Adaptation(
        workspace.root.absolute(), model, languages[0], folder / "draws", shots, draws, mapping, device_of(device),
        placement,
    )  # fmt: skip
    start, target = adaptation.open()
    began = time.monotonic()
    with progress_bar(f"adapt {languages[0]}", "halves of draws") as advance:
        run_blocks(adapt_block, adaptation.blocks(target), placing, advance)
    content = summary(adaptation, start, target, time.monotonic() - began)
    page = write_page(content, workspace.reports / folder.name)
    console.print("; ".join(facts(content)), markup=False, soft_wrap=True)
    for title, columns, rows in [*score_tables(content), *calibration_tables(content)]:
        print_table(f"{languages[0]} as a new language; {title}", columns, rows)
    for line in notes(content):
        console.print(line, style="yellow", markup=False, soft_wrap=True)
    console.print("Nearest: " + ", ".join(f"{name} {distance}" for name, distance in near(content)), markup=False)
    for line in overtaking(content):
        console.print(line, markup=False, soft_wrap=True)
    console.print(f"Report: {page}", soft_wrap=True)
    console.print(for_use(content), markup=False, soft_wrap=True)
    model_file = model_for_use(adaptation, folder, Kept(**content["kept"]))
    console.print(f"Model file: {model_file}", soft_wrap=True)


def _folder(workspace: Workspace, model: Path, language: str, mapping: str) -> Path:
    """Of what an adaptation keeps; its name tells run, language and mapping.

    Raises:
        ConfigError: the mapping cannot be used, or is another one of a shipped mapping's name.
    """
    run = model.parent.name if model.name == MODEL else f"{model.parent.name}-{model.stem}"
    name = load_mapping(mapping).name
    labels = "" if name == EMOTIONS else f"-{name}"
    return workspace.runs.absolute() / f"{run}{TO}{language}{labels}"


def _only_run(workspace: Workspace) -> str:
    """The one run with a model of several languages.

    Raises:
        ConfigError: none, or several.
    """
    there = runs_to_begin_with(workspace)
    if len(there) == 1:
        return there[0]
    raise ConfigError(
        "No run was given to begin with.",
        field="RUN",
        expected=f"one of: {' '.join(there) or 'none yet'}",
        hint="give RUN=..., or train one with `make train METHODS=multi-domain`",
    )

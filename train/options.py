"""The options that the commands of stage two share."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import click
import torch

from mser.config import is_name
from mser.errors import ConfigError
from mser.nas.settings import SearchSettings
from mser.protocol import PROTOCOLS
from mser.terminal import Words, home_option, languages_option
from train.events import require_tensorboard
from train.fit import FitSettings
from train.settings import StudySettings
from train.workers import Placing, default_workers


def placing_options(command: Any) -> Any:
    """Where blocks of work run: ``placing`` for the command."""

    @functools.wraps(command)
    def placed(workers: int, scheduler: str | None, device: str, **options: Any) -> Any:
        cuda = device.startswith("cuda") or (device == "auto" and torch.cuda.is_available())
        placing = Placing(workers or (1 if cuda else default_workers()), scheduler)
        return command(placing=placing, device=device, **options)

    workers = click.option("--workers", envvar="WORKERS", default=0, help="Processes; one a core if not given.")
    scheduler = click.option(
        "--scheduler", envvar="SCHEDULER", help="Run on the workers of a Dask cluster, such as tcp://host:8786."
    )
    return workers(scheduler(placed))


class Seeds(Words):
    """Several seeds, as numbers."""

    name = "seeds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        words = super().convert(value, param, ctx)
        try:
            return tuple(int(word) for word in words)
        except ValueError:
            self.fail(f"expected whole numbers such as 0 1 2, found {value!r}", param, ctx)


def run_name(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """The name of the folder that a command writes, for its option; without a default it may be empty.

    Raises:
        ConfigError: it is no plain name: the command would write somewhere else.
    """
    if value != parameter.default and not is_name(value):
        raise ConfigError(
            "RUN names a folder of the workspace; it is no path.",
            field="RUN",
            expected="a name without slashes that does not begin with a dot, such as first-try",
            found=repr(value),
            hint="where the workspace lies is said by MSER_HOME",
        )
    return value


def _checked_tensorboard(context: click.Context, parameter: click.Parameter, value: bool) -> bool:
    # Before anything runs: not once the first block of a long study is done.
    if value:
        require_tensorboard()
    return value


def study_options(command: Any) -> Any:
    """The options that search and training share; both must be given alike."""
    options: list[Any] = [
        languages_option,
        click.option(
            "--upstreams",
            envvar="UPSTREAMS",
            type=Words(),
            default="",
            help="Upstreams as given to extract; all that are cached if not given.",
        ),
        click.option("--features", envvar="FEATURES", default="pooled", show_default=True, help="frames or pooled."),
        click.option(
            "--frame-rate",
            envvar="FRAME_RATE",
            default=5.0,
            show_default=True,
            help="Frames a second, at most; more are averaged down.",
        ),
        click.option(
            "--epochs",
            envvar="EPOCHS",
            type=click.IntRange(min=1),
            help=f"Of a training; {FitSettings.epochs}, and at least {FitSettings.least_steps} steps, if not given.",
        ),
        click.option(
            "--search-epochs",
            envvar="SEARCH_EPOCHS",
            type=click.IntRange(min=1),
            help=f"Of a search; {SearchSettings.epochs}, and at least {SearchSettings.least_steps} steps, "
            "if not given.",
        ),
        click.option(
            "--candidates",
            envvar="CANDIDATES",
            type=click.IntRange(min=1),
            default=StudySettings.candidates,
            show_default=True,
            help="Structures that random search tries.",
        ),
        click.option(
            "--protocol",
            envvar="PROTOCOL",
            type=click.Choice(list(PROTOCOLS)),
            default="speakers",
            show_default=True,
            help="Of the test folds; only speakers is sure not to leak.",
        ),
        click.option(
            "--published",
            envvar="PUBLISHED",
            type=click.Path(path_type=Path),
            help="For the protocol emobox: the folder of its fold files.",
        ),
        click.option(
            "--missing/--no-missing", envvar="MISSING", help="Train languages without upstreams that they lack."
        ),
        click.option(
            "--placement",
            envvar="PLACEMENT",
            type=click.Choice(["auto", "device", "pinned", "memory", "streamed"]),
            default="auto",
            show_default=True,
            help="Of the states in training; results do not depend on it.",
        ),
        click.option(
            "--set",
            "assignments",
            envvar="SET",
            type=Words(),
            default="",
            help='Other settings, such as "fit.loss.mixup=0.4 model.dropout=0.5".',
        ),
        click.option("--device", envvar="DEVICE", default="auto", show_default=True, help="auto, cpu or cuda."),
        click.option(
            "--tensorboard",
            envvar="TENSORBOARD",
            is_flag=True,
            callback=_checked_tensorboard,
            help="Write curves into the folder tensorboard of the run or search, as blocks are done.",
        ),
        placing_options,
        home_option,
    ]
    for option in reversed(options):
        command = option(command)
    return command


def device_of(name: str) -> str:
    """The device of a name; ``auto`` is CUDA where there is one.

    Raises:
        ConfigError: CUDA is asked for and there is none.
    """
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    if chosen.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError("There is no CUDA device.", field="DEVICE", expected="cpu or auto", found=name)
    return chosen

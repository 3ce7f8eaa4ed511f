"""The commands of the benchmark."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from mser.config import Workspace, store_name
from mser.errors import ConfigError, RunError
from mser.mapping import is_path, mapping_names
from mser.terminal import Words, console, home_option, languages_option, print_table, progress_bar
from train.benchmark.folder import CONFIG, open_benchmark, restored, upstreams_of, wall_seconds
from train.benchmark.leaderboard import collect
from train.benchmark.page import terminal_tables, write_leaderboard
from train.benchmark.run import Benchmark, benchmark_block, layers_block, selected
from train.data import all_upstreams
from train.options import Seeds, device_of, placing_options, run_name
from train.printing import print_audit
from train.settings import Inputs, StudySettings
from train.systems import SYSTEMS
from train.systems.task import FEW_SHOT, WITHIN, ZERO_SHOT
from train.workers import Placing, run_blocks

PROTOCOLS = (WITHIN, ZERO_SHOT, FEW_SHOT)


@click.command("benchmark")
@languages_option
@click.option(
    "--upstreams",
    envvar="UPSTREAMS",
    type=Words(),
    default="",
    help="Experts of all systems, as given to extract; if not given, those of the folder, or all that are cached. "
    "Systems that need others by name (mfcc, compare ...) look for these themselves.",
)
@click.option(
    "--methods", envvar="METHODS", type=Words(), default="all", help=f"Systems: all, or of {' '.join(SYSTEMS)}."
)
@click.option("--protocols", envvar="PROTOCOLS", type=Words(), default=" ".join(PROTOCOLS), show_default=True)
@click.option(
    "--labels",
    envvar="LABELS",
    type=Words(),
    default="emotions valence",
    show_default=True,
    help=f"What emotions count as: of {' '.join(mapping_names())}, or YAML files. The first is asked under every "
    "protocol, the others across languages without shots.",
)
@click.option("--shots", envvar="SHOTS", type=Seeds(), default="1 5 10", show_default=True, help="Clips an emotion.")
@click.option("--seeds", envvar="SEEDS", type=Seeds(), default="0 1 2 3 4", show_default=True)
@click.option(
    "--set", "changes", envvar="SET", type=Words(), default="", help='Options of systems, such as "mlp.hidden=64".'
)
@click.option(
    "--run",
    envvar="RUN",
    default="benchmark",
    show_default=True,
    callback=run_name,
    help="Name of the folder of answers.",
)
@click.option("--device", envvar="DEVICE", default="auto", show_default=True, help="auto, cpu or cuda.")
@placing_options
@home_option
def benchmark_command(
    languages: tuple[str, ...],
    upstreams: tuple[str, ...],
    methods: tuple[str, ...],
    protocols: tuple[str, ...],
    labels: tuple[str, ...],
    shots: tuple[int, ...],
    seeds: tuple[int, ...],
    changes: tuple[str, ...],
    run: str,
    device: str,
    placing: Placing,
    workspace: Workspace,
) -> None:
    """Ask every system on every language and pair of languages, and write the leaderboard."""
    _require_askable(protocols, shots, seeds)
    labels = tuple(str(Path(name).absolute()) if is_path(name) else name for name in labels)
    names = (
        tuple(map(store_name, upstreams))
        or upstreams_of(workspace.benchmarks / run)
        or all_upstreams(workspace, languages, missing=False)
    )
    inputs = Inputs(workspace.root, names, StudySettings(), device_of(device))
    datas = inputs.load_all(languages)
    for data in datas:
        print_audit(data)
    languages = tuple(data.language for data in datas)
    folder = inputs.workspace.benchmarks / run
    benchmark = Benchmark(inputs, folder, languages, selected(methods), protocols, labels, shots, seeds, changes)
    _require_pairs(benchmark)
    whole = open_benchmark(benchmark)
    # A system that draws nothing has one answer, whatever seeds are added later.
    benchmark = replace(benchmark, unseeded=whole.seeds[0])
    began = time.monotonic()
    try:
        with progress_bar("layers", "pairs") as advance:
            run_blocks(layers_block, [(benchmark, pair) for pair in benchmark.pairs], placing, advance)
        with progress_bar("benchmark", "blocks") as advance:
            run_blocks(benchmark_block, benchmark.blocks(), placing, advance)
    finally:
        spent = wall_seconds(benchmark, time.monotonic() - began)
    _report(whole, spent)


def _require_askable(protocols: tuple[str, ...], shots: tuple[int, ...], seeds: tuple[int, ...]) -> None:
    """Raises ConfigError where these words and numbers ask nothing."""
    if not protocols or set(protocols) - set(PROTOCOLS):
        raise ConfigError(
            "Unknown words, or none.", field="PROTOCOLS", expected=" ".join(PROTOCOLS), found=" ".join(protocols)
        )
    if not seeds or (FEW_SHOT in protocols and (not shots or min(shots) < 1)):
        raise ConfigError("No seed, or no shots.", field="SEEDS, SHOTS", expected="whole numbers such as 1 5 10")


def _require_pairs(benchmark: Benchmark) -> None:
    """Raises ConfigError where one language alone is to be asked across languages."""
    if not benchmark.pairs:
        raise ConfigError(
            f"Two languages are needed for {', '.join(benchmark.protocols)}.",
            field="LANG",
            expected="two or more, or the protocol within",
            found=" ".join(benchmark.languages),
        )


@click.command("leaderboard")
@click.argument("run", type=click.Path(path_type=Path), default=Path("benchmark"))
@home_option
def leaderboard_command(run: Path, workspace: Workspace) -> None:
    """Write the leaderboard of a RUN (a folder, or its name) again, from the answers that are there."""
    workspace = Workspace(workspace.root.absolute())
    # A folder of the same name that is no benchmark's does not stand in the way of one of the workspace.
    folder = Path(os.path.abspath(run)) if (run / CONFIG).is_file() else workspace.benchmarks / run
    benchmark = restored(workspace, folder)
    _report(benchmark, wall_seconds(benchmark))


def _report(benchmark: Benchmark, spent: float) -> None:
    """Writes and prints the leaderboard.

    Raises:
        RunError: a system failed somewhere; all else is written.
    """
    content: dict[str, Any] = collect(benchmark, spent)
    page = write_leaderboard(content, benchmark.inputs.workspace.reports / benchmark.folder.name)
    for title, columns, rows in terminal_tables(content):
        print_table(title, columns, rows)
    for note in content["notes"]:
        console.print(note, style="yellow", markup=False, soft_wrap=True)
    console.print(f"Leaderboard: {page}", soft_wrap=True)
    failed = [(cell, one) for cell in content["cells"] for one in cell["failed"]]
    if failed:
        cell, first = failed[0]
        raise RunError(
            f"Systems failed in {len(failed)} cells; all others are in the leaderboard.",
            file=page,
            field=", ".join(sorted({one["system"] for _, one in failed})),
            found=f"{first['system']}, {cell['protocol']}, {cell['source']} to {cell['target']}: {first['reason']}",
            hint="mend what the reasons say and run `make benchmark` again: it asks only what is missing",
        )

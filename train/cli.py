"""The commands of stage two (``mser-train``, ``python -m train``)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from mser.config import Workspace, store_name
from mser.cores import torch_threads
from mser.corpora import CorpusDefinition, load_definitions
from mser.errors import ConfigError
from mser.nas.search import STRATEGIES
from mser.nas.settings import SearchSettings
from mser.runs import study_folder
from mser.terminal import MserGroup, Words, console, definitions_option, home_option, print_table, progress_bar
from train.adapt.cli import adapt_command
from train.benchmark.cli import benchmark_command, leaderboard_command
from train.calibrate import calibration_block, calibration_blocks
from train.card import write_card
from train.data import Features, LanguageData, all_upstreams
from train.evaluate import evaluate
from train.events import Log, run_log, search_log
from train.final import final_method, final_models
from train.fit import FitSettings
from train.methods import DEFAULT_METHODS, METHODS, named
from train.notes import search_notes
from train.options import Seeds, device_of, run_name, study_options
from train.printing import print_against_random, print_audit, print_for_use, print_log
from train.report import terminal_table, write_report
from train.run import open_run, probe_block, probe_blocks, require_searches, restored, timings
from train.search import DEFAULT_STRATEGIES, folds_to_search, read_strategy, search_block, searched
from train.settings import Inputs, StudySettings, changed
from train.study import Study, late_block, study_block
from train.workers import Placing, run_blocks


@click.group(cls=MserGroup)
def main() -> None:
    """Stage two: search, training and evaluation on cached states. No audio, no network."""


main.add_command(adapt_command)
main.add_command(benchmark_command)
main.add_command(leaderboard_command)


@main.command("search")
@study_options
@click.option(
    "--strategies",
    envvar="STRATEGIES",
    type=Words(),
    default=" ".join(DEFAULT_STRATEGIES),
    show_default=True,
    help=f"Of {' '.join(STRATEGIES)}.",
)
def search_command(
    languages: tuple[str, ...],
    workspace: Workspace,
    placing: Placing,
    strategies: tuple[str, ...],
    tensorboard: bool,
    **options: Any,
) -> None:
    """Search a structure for each test fold of each language, and one for use."""
    unknown = set(strategies) - set(STRATEGIES)
    if unknown or not strategies:
        raise ConfigError(
            "Unknown strategies, or none.", field="STRATEGIES", expected=" ".join(STRATEGIES), found=sorted(unknown)
        )
    inputs = _inputs(workspace, languages, **options)
    for data in inputs.load_all(languages):
        print_audit(data)
        log = search_log(inputs.search_folder(data)) if tensorboard else None
        _search(inputs, data, strategies, placing, log)
        print_log(log)


def _search(inputs: Inputs, data: LanguageData, strategies: tuple[str, ...], placing: Placing, log: Log | None) -> None:
    folds = folds_to_search(data)
    blocks = [(inputs, data.language, number, (name,)) for name in strategies for number in range(len(folds))]
    blocks = [block for block in blocks if searched(inputs, data, folds[block[2]].name, block[3][0]) is None]
    with progress_bar(f"search {data.language}", "folds") as advance:
        run_blocks(search_block, blocks, placing, log.following(advance) if log else advance)
    found = {fold.name: {name: read_strategy(inputs, data, fold.name, name) for name in strategies} for fold in folds}
    print_table(
        f"Searches of {data.language}: UAR on dev speakers, structures trained alike",
        ["test fold", "strategy", "dev UAR", "seconds", "structure"],
        [
            [fold, name, f"{one['dev_uar']:.1f}", f"{one['seconds']:.1f}", one["text"]]
            for fold, each in found.items()
            for name, one in each.items()
        ],
    )
    if "random" in strategies and len(strategies) > 1:
        print_against_random(found, [fold.name for fold in data.folds], strategies)
    for note in search_notes(inputs, data, strategies):
        console.print(note, style="yellow", markup=False, soft_wrap=True)
    for name in strategies:
        print_for_use(inputs, data, name, found[folds[-1].name][name])


@main.command("fit")
@study_options
@click.option("--seeds", envvar="SEEDS", type=Seeds(), default="0 1 2", show_default=True)
@click.option(
    "--methods",
    envvar="METHODS",
    type=Words(),
    default=" ".join(DEFAULT_METHODS),
    show_default=True,
    help=f"all, or of {' '.join(METHODS)}.",
)
@click.option(
    "--run",
    envvar="RUN",
    default="",
    callback=run_name,
    help="Name of the run folder; made from the inputs if not given.",
)
@definitions_option
def fit_command(
    languages: tuple[str, ...],
    workspace: Workspace,
    placing: Placing,
    seeds: tuple[int, ...],
    methods: tuple[str, ...],
    run: str,
    definitions: Path | None,
    tensorboard: bool,
    **options: Any,
) -> None:
    """Train and test every method on all languages, and write the report and the model card."""
    if not seeds:
        raise ConfigError("No seed was given.", field="SEEDS", expected="whole numbers such as 0 1 2")
    chosen, corpora = named(methods), load_definitions(definitions)
    inputs = _inputs(workspace, languages, **options)
    datas = inputs.load_all(languages)
    for data in datas:
        print_audit(data)
    study = open_run(inputs, datas, chosen, seeds, run)
    require_searches(study, datas)
    log = run_log(study.folder) if tensorboard else None
    began = time.monotonic()
    with progress_bar("probe", "folds") as advance:
        run_blocks(probe_block, probe_blocks(study, datas), placing, advance)
    folds = {data.language: len(data.folds) for data in datas}
    with progress_bar("train", "blocks") as advance:
        run_blocks(study_block, study.blocks(folds), placing, log.following(advance) if log else advance)
    for block in study.late_blocks():
        late_block(*block)
    if name := final_method(study):
        with progress_bar(f"calibrate {name}", "blocks") as advance:
            run_blocks(calibration_block, calibration_blocks(study, name, folds), placing, advance)
    with torch_threads(1):  # as all trainings: sums over several have other last bits
        models = final_models(study)
    results = _report(study, datas, timings(study, time.monotonic() - began), corpora)
    for model in models:
        console.print(f"Model for use: {model}", soft_wrap=True)
    if log:
        log.update()  # what late blocks took from others
        log.results(results)
    print_log(log)


def _report(
    study: Study,
    chosen: list[LanguageData],
    timings: list[dict[str, Any]],
    definitions: Mapping[str, CorpusDefinition],
) -> dict[str, Any]:
    """Writes and prints the report and the model card; returns the results."""
    results = evaluate(study, chosen, timings)
    page = write_report(results, study.inputs.workspace.reports / study.folder.name)
    columns, rows = terminal_table(results)
    for note in results["notes"]:
        console.print(note, style="yellow")
    protocols = {study.inputs.settings.protocol}
    title = (
        "Speaker-independent results on test speakers" if protocols == {"speakers"} else f"Results by {protocols.pop()}"
    )
    print_table(f"{title}, percent", columns, rows)
    console.print(f"Report: {page}", soft_wrap=True)
    console.print(f"Model card: {write_card(study, chosen, results, definitions)}", soft_wrap=True)
    return results


@main.command("report")
@click.argument("run")
@definitions_option
@home_option
def report_command(run: str, definitions: Path | None, workspace: Workspace) -> None:
    """Write the report and the model card of a finished RUN (a folder, or its name) again."""
    study = restored(workspace, study_folder(run, workspace))
    datas = study.inputs.load_all(study.languages)
    _report(study, datas, timings(study, 0.0), load_definitions(definitions))


def _inputs(
    workspace: Workspace,
    languages: tuple[str, ...],
    upstreams: tuple[str, ...],
    features: str,
    frame_rate: float,
    epochs: int | None,
    search_epochs: int | None,
    candidates: int,
    protocol: str,
    published: Path | None,
    missing: bool,
    placement: str,
    assignments: tuple[str, ...],
    device: str,
) -> Inputs:
    settings = StudySettings(
        features=Features(features, frame_rate),
        fit=FitSettings(epochs=epochs, least_steps=1) if epochs else FitSettings(),
        search=SearchSettings(epochs=search_epochs, least_steps=1) if search_epochs else SearchSettings(),
        candidates=candidates,
        protocol=protocol,
        published=str(published.resolve()) if published else None,
    )
    # Settled here for all languages: a block that loads one language must not find others for itself.
    names = tuple(map(store_name, upstreams)) or all_upstreams(workspace, languages, missing)
    if not upstreams and names:
        console.print(f"Upstreams: {' '.join(names)}", markup=False, soft_wrap=True)
    return Inputs(workspace.root, names, changed(settings, assignments), device_of(device), placement, missing)

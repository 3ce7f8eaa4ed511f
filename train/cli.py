"""The commands of stage two (``mser-train``, ``python -m train``)."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import click
import torch

from mser import __version__
from mser.cli import MserGroup, Words, console, home_option, languages_option, print_table, progress_bar
from mser.config import Workspace, fingerprint, read_json, write_json, write_text
from mser.errors import ConfigError, RunError
from mser.model import ModelSettings
from mser.nas.darts import SearchSettings
from train.data import Features, LanguageData, load_languages
from train.evaluate import evaluate
from train.fit import FitSettings
from train.report import genotype_picture, terminal_table, write_report
from train.search import folds_to_search, read_search, search_block, search_path
from train.settings import Inputs, StudySettings
from train.study import METHODS, Study, final_model, study_block
from train.workers import default_workers, run_blocks


class Seeds(Words):
    """Several seeds, as numbers."""

    name = "seeds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        words = super().convert(value, param, ctx)
        try:
            return tuple(int(word) for word in words)
        except ValueError:
            self.fail(f"expected whole numbers such as 0 1 2, found {value!r}", param, ctx)


def study_options(command: Any) -> Any:
    """The options that search and training share; both must be given alike."""
    for option in reversed(
        [
            languages_option,
            click.option(
                "--upstreams",
                envvar="UPSTREAMS",
                type=Words(),
                default="",
                help="Upstreams as given to extract; all that are cached if not given.",
            ),
            click.option(
                "--features", envvar="FEATURES", default="pooled", show_default=True, help="frames or pooled."
            ),
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
                help=f"Of a training; {FitSettings.epochs}, and at least {FitSettings.least_steps} steps, "
                "if not given.",
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
            click.option("--device", envvar="DEVICE", default="auto", show_default=True, help="auto, cpu or cuda."),
            click.option("--workers", envvar="WORKERS", default=0, help="Processes; one a core if not given."),
            home_option,
        ]
    ):
        command = option(command)
    return command


@click.group(cls=MserGroup)
def main() -> None:
    """Stage two: search, training and evaluation on cached states. No audio, no network."""


@main.command("search")
@study_options
def search_command(languages: tuple[str, ...], workspace: Workspace, workers: int, **options: Any) -> None:
    """Search a structure for each test fold of each language, and one for use."""
    inputs = _inputs(workspace, **options)
    for data in _load(inputs, languages):
        _search(inputs, data, workers or _workers(inputs))


def _search(inputs: Inputs, data: LanguageData, workers: int) -> None:
    _print_audit(data)
    folds = folds_to_search(data)
    blocks = [
        (inputs, data.language, number)
        for number, fold in enumerate(folds)
        if not search_path(inputs, data, fold.name).is_file()
    ]
    with progress_bar(f"search {data.language}", "folds") as advance:
        run_blocks(search_block, blocks, workers, advance)
    found = [read_search(inputs, data, fold.name) for fold in folds]
    folder = inputs.search_folder(data)
    use = found[-1]["searched"]
    write_json(folder / "genotype.json", {"language": data.language, "fingerprint": data.fingerprint, **use})
    picture = genotype_picture(use["genotype"], data.language)
    write_text(folder / "genotype.svg", picture)
    print_table(
        f"Searches of {data.language}: UAR on dev speakers, structures trained alike",
        ["test fold", "searched", "random, best", "random, mean", "fixed", "seconds", "of random", "structure"],
        [_search_row(one) for one in found],
    )
    tested = found[:-1]
    wins = Counter(_compare(one["searched"]["dev_uar"], one["random"]["dev_uar"]) for one in tested)
    console.print(
        f"Against the best random structure, over {len(tested)} folds: better {wins['better']}, "
        f"equal {wins['equal']}, worse {wins['worse']}."
    )
    console.print(f"For use: {use['text']}\n{folder / 'genotype.json'}, {folder / 'genotype.svg'}")


def _search_row(found: dict[str, Any]) -> list[str]:
    candidates = [one["dev_uar"] for one in found["candidates"]]
    seconds = found["seconds"]
    return [
        found["fold"],
        f"{found['searched']['dev_uar']:.1f}",
        f"{found['random']['dev_uar']:.1f}",
        f"{sum(candidates) / len(candidates):.1f}",
        f"{found['fixed']['dev_uar']:.1f}",
        f"{seconds['search']:.1f}",
        f"{seconds['random']:.1f}",
        found["searched"]["text"],
    ]


def _compare(value: float, other: float) -> str:
    return "equal" if abs(value - other) < 1e-9 else "better" if value > other else "worse"


@main.command("fit")
@study_options
@click.option("--seeds", envvar="SEEDS", type=Seeds(), default="0 1 2", show_default=True)
@click.option("--methods", envvar="METHODS", type=Words(), default=" ".join(METHODS), show_default=True)
@click.option("--run", envvar="RUN", default="", help="Name of the run folder; made from the inputs if not given.")
def fit_command(
    languages: tuple[str, ...],
    workspace: Workspace,
    workers: int,
    seeds: tuple[int, ...],
    methods: tuple[str, ...],
    run: str,
    **options: Any,
) -> None:
    """Train and test every method on all languages, and write the report."""
    unknown = set(methods) - set(METHODS)
    if unknown or not methods or not seeds:
        raise ConfigError(
            "Unknown methods, or no seed.", field="METHODS", expected=" ".join(METHODS), found=sorted(unknown)
        )
    inputs = _inputs(workspace, **options)
    chosen = _load(inputs, languages)
    for data in chosen:
        _print_audit(data)
        for fold in folds_to_search(data):
            read_search(inputs, data, fold.name)
    study = _open_run(inputs, chosen, methods, seeds, run)
    count = workers or _workers(inputs)
    began = time.monotonic()
    with progress_bar("train", "folds") as advance:
        run_blocks(study_block, study.blocks({data.language: len(data.folds) for data in chosen}), count, advance)
    spent = {"stage": "train, wall clock", "language": " ".join(study.languages), "seconds": time.monotonic() - began}
    model = final_model(study)
    _report(study, chosen, _timings(study, spent))
    console.print(f"Model for use: {model}")


def _open_run(
    inputs: Inputs, chosen: list[LanguageData], methods: tuple[str, ...], seeds: tuple[int, ...], name: str
) -> Study:
    """The run folder of these inputs; going on with it where it exists."""
    languages = tuple(data.language for data in chosen)
    ordered = tuple(method for method in METHODS if method in methods)
    config = {
        "data": {data.language: data.fingerprint for data in chosen},
        "manifests": {data.language: data.manifests for data in chosen},
        "stores": {
            data.language: {
                upstream: {corpus: store.provenance.fingerprint for corpus, store in stores.items()}
                for upstream, stores in data.stores.items()
            }
            for data in chosen
        },
        "settings": inputs.settings.to_dict(),
    }
    key = fingerprint(config)
    folder = inputs.workspace.runs / (name or f"{'-'.join(languages)}-{key[:8]}")
    path = folder / "config.json"
    if path.is_file() and read_json(path)["fingerprint"] != key:
        raise RunError(
            "The run folder belongs to other inputs or settings.",
            file=path,
            field="fingerprint",
            expected=key,
            found=read_json(path)["fingerprint"],
            hint="give another RUN, or none",
        )
    write_json(
        path,
        {
            **config,
            "fingerprint": key,
            "languages": languages,
            "mser_version": __version__,
            "methods": ordered,
            "seeds": seeds,
            "upstreams": inputs.upstreams,
            "device": inputs.device,
        },
    )
    return Study(inputs, folder, languages, ordered, seeds)


def _timings(study: Study, spent: dict[str, Any]) -> list[dict[str, Any]]:
    """The run's wall clock over all of its continuations."""
    path = study.folder / "timings.json"
    before = read_json(path) if path.is_file() else []
    if spent["seconds"] > 1:
        before.append(spent)
        write_json(path, before)
    return before


def _report(study: Study, chosen: list[LanguageData], timings: list[dict[str, Any]]) -> None:
    results = evaluate(study, chosen, timings)
    page = write_report(results, study.inputs.workspace.reports / study.folder.name)
    columns, rows = terminal_table(results)
    for note in results["notes"]:
        console.print(note, style="yellow")
    print_table("Speaker-independent results on test speakers, percent", columns, rows)
    console.print(f"Report: {page}")


@main.command("report")
@click.argument("run", type=click.Path(path_type=Path))
@home_option
def report_command(run: Path, workspace: Workspace) -> None:
    """Write the report of a finished RUN (a folder, or its name) again."""
    folder = run if run.is_dir() else workspace.runs / run
    if not (folder / "config.json").is_file():
        names = sorted(path.parent.name for path in workspace.runs.glob("*/config.json"))
        raise RunError(
            "There is no such run.",
            file=folder,
            expected=f"one of: {' '.join(names) or 'none yet'}",
            hint="run `make train`",
        )
    config = read_json(folder / "config.json")
    settings = config["settings"]
    restored = StudySettings(
        features=Features(**settings["features"]),
        model=ModelSettings(**settings["model"]),
        fit=FitSettings(**settings["fit"]),
        search=SearchSettings(**settings["search"]),
        candidates=settings["candidates"],
        layer_scale=settings["layer_scale"],
        expert_scale=settings["expert_scale"],
    )
    inputs = Inputs(workspace.root, tuple(config["upstreams"]), restored, config["device"])
    chosen = _load(inputs, tuple(config["languages"]))
    study = Study(inputs, folder, tuple(config["languages"]), tuple(config["methods"]), tuple(config["seeds"]))
    path = folder / "timings.json"
    _report(study, chosen, read_json(path) if path.is_file() else [])


def _inputs(
    workspace: Workspace,
    upstreams: tuple[str, ...],
    features: str,
    frame_rate: float,
    epochs: int | None,
    search_epochs: int | None,
    candidates: int,
    device: str,
) -> Inputs:
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    if chosen.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError("There is no CUDA device.", field="DEVICE", expected="cpu or auto", found=device)
    settings = StudySettings(
        features=Features(features, frame_rate),
        fit=FitSettings(epochs=epochs, least_steps=1) if epochs else FitSettings(),
        search=SearchSettings(epochs=search_epochs, least_steps=1) if search_epochs else SearchSettings(),
        candidates=candidates,
    )
    return Inputs(workspace.root, upstreams, settings, chosen)


def _load(inputs: Inputs, languages: tuple[str, ...]) -> list[LanguageData]:
    return load_languages(inputs.workspace, languages, inputs.upstreams, inputs.settings.features)


def _workers(inputs: Inputs) -> int:
    return 1 if inputs.device.startswith("cuda") else default_workers()


def _print_audit(data: LanguageData) -> None:
    report = data.audit
    console.print(
        f"Audit of {data.language} ({report.corpus}): {report.protocol}, {len(data.folds)} test folds, "
        f"{report.speakers} speakers, {report.utterances} utterances; no speaker and no recording crosses a fold."
    )
    for message in report.messages:
        console.print(f"  {message}", style="yellow", markup=False, soft_wrap=True)

"""The folder of a run: what it was made from, what it needs, and what it took."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mser import __version__
from mser.config import Workspace, fingerprint, read_json, warn_of_damage, write_json
from mser.errors import ConfigError, RunError
from mser.model import ModelSettings
from mser.nas.settings import SearchSettings
from train.data import Features, LanguageData
from train.fit import FitSettings
from train.methods import MEAN, METHODS, strategies
from train.objective import LossSettings
from train.search import fold_probes, folds_to_search, loaded, probed, read_strategy
from train.settings import RECIPE, Inputs, StudySettings
from train.study import Study

CONFIG, TIMINGS = "config.json", "timings.json"


def open_run(
    inputs: Inputs, datas: Sequence[LanguageData], methods: tuple[str, ...], seeds: tuple[int, ...], name: str
) -> Study:
    """The run folder of these inputs; going on with it where it exists.

    Args:
        name: of the folder; made from the inputs if empty.

    Raises:
        RunError: the folder belongs to other inputs or settings, or to an earlier recipe, or does not say to which.
        ConfigError: a seed that no training can draw from.
    """
    languages = tuple(data.language for data in datas)
    config = _made_from(inputs, datas)
    key = fingerprint(config)
    folder = inputs.workspace.runs / (name or f"{'-'.join(languages)}-{key[:8]}")
    path = folder / CONFIG
    before = read_config(path).get("fingerprint") if path.is_file() else key
    if before != key:
        raise RunError(
            "The run folder belongs to other inputs or settings, or to another version of the training.",
            file=path,
            field="fingerprint",
            expected=key,
            found=before,
            hint="give another RUN, or none",
        )
    study = Study(inputs, folder, languages, methods, seeds)
    write_json(
        path,
        {
            **config,
            "fingerprint": key,
            "languages": languages,
            "mser_version": __version__,
            "methods": methods,
            "seeds": seeds,
            "upstreams": inputs.upstreams,
            "device": inputs.device,
            "missing": inputs.missing,
        },
    )
    return study


def _made_from(inputs: Inputs, datas: Sequence[LanguageData]) -> dict[str, Any]:
    """What the results of a run depend on: where any of it differs, it is another run."""
    return {
        "data": {data.language: data.fingerprint for data in datas},
        "manifests": {data.language: data.manifests for data in datas},
        "stores": {
            data.language: {
                upstream: {corpus: store.provenance.fingerprint for corpus, store in stores.items()}
                for upstream, stores in data.stores.items()
            }
            for data in datas
        },
        "settings": inputs.settings.to_dict(),
        "recipe": RECIPE,
    }


def read_config(path: Path) -> dict[str, Any]:
    """What a run's folder says of its inputs.

    Raises:
        RunError: it is damaged. It is not written anew: nobody knows whose results lie in the folder.
    """
    try:
        content = read_json(path)
    except ConfigError as error:
        if isinstance(error.__cause__, OSError):
            raise
        content = error.found
    if not isinstance(content, dict):
        raise RunError(
            "The run's folder does not say what it was made from: its file is damaged.",
            file=path,
            expected="a JSON object",
            found=content,
            hint="delete the folder and run `make train` again, or give another RUN",
        )
    return content


def restored(workspace: Workspace, folder: Path) -> Study:
    """The study of a run folder.

    Raises:
        RunError: the folder was written half, or by another version.
        ConfigError: it was made with settings that no study can run with.
    """
    path = folder / CONFIG
    config = read_config(path)
    try:
        settings = settings_of(config["settings"])
        upstreams, device, missing = tuple(config["upstreams"]), config["device"], config["missing"]
        inputs = Inputs(workspace.root, upstreams, settings, device, missing=missing)
        return Study(inputs, folder, *(tuple(config[name]) for name in ("languages", "methods", "seeds")))
    except (KeyError, TypeError) as error:
        raise RunError(
            "The run's settings cannot be read.", file=path, found=error, hint="run `make train` again"
        ) from error


def settings_of(content: Mapping[str, Any]) -> StudySettings:
    """What :meth:`StudySettings.to_dict` wrote."""
    fit = content["fit"]
    parts = {
        "features": Features(**content["features"]),
        "model": ModelSettings(**content["model"]),
        "fit": FitSettings(**{**fit, "loss": LossSettings(**fit["loss"])}),
        "search": SearchSettings(**content["search"]),
    }
    return StudySettings(**{**content, **parts})


def require_searches(study: Study, datas: Sequence[LanguageData]) -> None:
    """Raises RunError, with the command to run, where a method's structure was not searched."""
    for data in datas:
        for fold in folds_to_search(data):
            for name in strategies(study.methods):
                if name != "fixed":
                    read_strategy(study.inputs, data, fold.name, name)


def probe_blocks(study: Study, datas: Sequence[LanguageData]) -> list[tuple[Any, ...]]:
    """Arguments of :func:`probe_block`, for what the study's methods need and nobody has probed yet."""
    ways = {METHODS[name].normalise for name in study.methods if METHODS[name].kind != MEAN}
    return [
        (study.inputs, data.language, number, way)
        for data in datas
        for number, fold in enumerate(folds_to_search(data))
        for way in sorted(ways)
        if probed(study.inputs, data, fold.name, way) is None
    ]


def probe_block(inputs: Inputs, language: str, number: int, normalise: str) -> None:
    """Probes single layers on the dev speakers of one fold."""
    data = loaded(inputs, language)
    fold_probes(inputs, data, folds_to_search(data)[number], normalise)


def timings(study: Study, seconds: float) -> list[dict[str, Any]]:
    """The run's wall clock over all of its continuations, with these seconds added."""
    path = study.folder / TIMINGS
    before: list[dict[str, Any]] = []
    try:
        before = read_json(path) if path.is_file() else []
    except ConfigError as error:
        warn_of_damage(path, error.found)
    if seconds > 1:
        spent = {"stage": "train, wall clock", "language": " ".join(study.languages), "seconds": seconds}
        before.append(spent)
        write_json(path, before)
    return before

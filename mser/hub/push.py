"""What of a run's folder goes to a model hub, and its way there by the hub's own library."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from mser.config import read_json, store_name, write_json
from mser.errors import ConfigError, RunError

CARD, CONFIG = "README.md", "config.json"
#: Models for use, as torch and as ONNX files.
MODELS = ("model*.safetensors", "head-*.onnx")
#: What was said of every test utterance; folders of methods and of calibration.
PREDICTIONS = ("*/*/*.json", "calibration/*/*/*.json")
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class Hub(Protocol):
    """What is used of ``huggingface_hub.HfApi``."""

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> Any: ...

    def repo_info(self, repo_id: str) -> Any: ...

    def upload_folder(
        self, *, repo_id: str, folder_path: str, commit_message: str, delete_patterns: list[str]
    ) -> Any: ...


def hub_api() -> Hub:
    """The hub's own library, which finds the address and the token by itself."""
    from huggingface_hub import HfApi

    return HfApi()


def files_of(run: Path, predictions: bool = False) -> dict[str, Path]:
    """What goes: name on the hub -> file; models for use, config and card.

    Args:
        predictions: also what was said of each test utterance, by its id and beside its label.

    Raises:
        RunError: it is no run, or has no model or no card.
    """
    models = sorted(path for pattern in MODELS for path in run.glob(pattern))
    lacking = {
        CONFIG: ("The folder is no run's: it has no config.json.", "name a run of `make train`"),
        CARD: ("The run has no model card.", f"run `mser-train report {run.name}`, which writes it"),
    }
    for name, (what, hint) in lacking.items():
        if not (run / name).is_file():
            raise RunError(what, file=run / name, expected="the folder of a finished run", hint=hint)
    if not any(path.suffix == ".safetensors" for path in models):
        raise RunError(
            "The run has no model for use.",
            file=run,
            expected=MODELS[0],
            hint="run `make train` with a method that trains heads, such as METHODS=fixed",
        )
    chosen = [run / CARD, run / CONFIG, *models]
    if predictions:
        chosen += sorted({path for pattern in PREDICTIONS for path in run.glob(pattern)})
    return {path.relative_to(run).as_posix(): path for path in chosen}


def stage(files: Mapping[str, Path], folder: Path) -> None:
    """Copies what goes into a folder of its own; the config without the places of folders on this machine."""
    for name, path in files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if name == CONFIG:
            write_json(target, without_places(read_json(path)))
        else:
            shutil.copyfile(path, target)


def without_places(config: dict[str, Any]) -> dict[str, Any]:
    """A run's config in which folders are called by their names alone.

    >>> without_places({"upstreams": ["/home/anna/whisper", "acoustic"], "settings": {"published": "/data/emobox"}})
    {'upstreams': ['whisper', 'acoustic'], 'settings': {'published': 'emobox'}}
    """
    settings = dict(config.get("settings", {}))
    if settings.get("published"):
        settings["published"] = Path(settings["published"]).name
    return {**config, "upstreams": [store_name(name) for name in config.get("upstreams", [])], "settings": settings}


def require_repository(name: str) -> None:
    """Raises ConfigError where a name is not ``ORG/NAME``."""
    if not REPOSITORY.fullmatch(name):
        raise ConfigError("This is no name of a repository.", field="--to-hub", expected="ORG/NAME", found=name)


def push(files: Mapping[str, Path], repository: str, public: bool, message: str, api: Hub) -> str:
    """Uploads files to a repository, which is made where there is none; returns the address of the commit.

    Models for use that lie there from an earlier push and are not among the files are removed: a folder with models of
    two methods would answer with either.

    Args:
        public: without it a repository is made private, and one that is public is refused.

    Raises:
        RunError: the hub does not let us, cannot be reached, or the repository is public and should not be.
    """
    from huggingface_hub import errors

    require_repository(repository)
    refused = (errors.HTTPError, errors.LocalTokenNotFoundError, OSError, ValueError)
    with tempfile.TemporaryDirectory() as folder:
        stage(files, Path(folder))
        try:
            api.create_repo(repository, private=not public, exist_ok=True)
            if not public and not api.repo_info(repository).private:
                raise RunError(
                    "The repository is public.",
                    field="--to-hub",
                    expected="a private one",
                    found=repository,
                    hint="give --public if everybody may have these files, or another name",
                )
            done = api.upload_folder(
                repo_id=repository, folder_path=folder, commit_message=message, delete_patterns=list(MODELS)
            )
        except refused as error:
            raise RunError(
                "The hub did not take the run.",
                field="--to-hub",
                found=f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}",
                hint="check the network and the name; log in with `hf auth login`, or set HF_TOKEN, with a token that "
                "may write there",
            ) from error
    return str(getattr(done, "commit_url", repository))

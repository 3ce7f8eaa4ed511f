"""From the name a user gives to the place a model is loaded from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mser.config import DATA_FOLDER, is_local_folder, read_yaml, store_name
from mser.errors import UpstreamError


@dataclass(frozen=True)
class Source:
    """Where a pretrained model comes from.

    Attributes:
        name: of its stores.
        location: hub id or absolute folder.
        revision: pinned commit, or None for the newest (a folder has none).
        local: whether ``location`` is a folder.
    """

    name: str
    location: str
    revision: str | None
    local: bool


@lru_cache
def registry() -> Mapping[str, Mapping[str, Any]]:
    """The known upstreams of ``data_manifest/upstreams.yaml`` by name."""
    return read_yaml(DATA_FOLDER / "upstreams.yaml")


def resolve(name: str) -> Source:
    """Finds a model by registry name, hub id (``organisation/model``) or local folder.

    Raises:
        UpstreamError: the name is none of these, or the folder holds no model.
    """
    if is_local_folder(name):
        folder = Path(name).expanduser().absolute()
        if not (folder / "config.json").is_file():
            raise UpstreamError(
                "The folder holds no pretrained model.",
                file=folder,
                expected="config.json and model.safetensors",
                found=", ".join(sorted(os.listdir(folder))[:8]) or "an empty folder"
                if folder.is_dir()
                else "no such folder",
                hint="give the folder of a saved transformers model",
            )
        return Source(store_name(name), str(folder), None, True)
    if name in registry():
        entry = registry()[name]
        return Source(name, entry["id"], entry.get("revision"), False)
    if name.count("/") == 1:
        return Source(store_name(name), name, None, False)
    raise UpstreamError(
        f"Upstream {name!r} is not known.",
        field="UPSTREAMS",
        expected="acoustic, logmel, mfcc, prosody, a hub id such as facebook/hubert-base-ls960, a folder "
        f"such as ./my-model, or one of: {' '.join(sorted(registry()))}",
        hint="choose one of these (data_manifest/upstreams.yaml)",
    )

"""From the name a user gives to the place a model is loaded from."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mser.config import DATA_FOLDER, is_local_folder, read_yaml, split_adapter, store_name
from mser.errors import UpstreamError


@dataclass(frozen=True)
class Source:
    """Where a pretrained model comes from.

    Attributes:
        name: of its stores.
        location: hub id or absolute folder.
        revision: pinned commit, or None for the newest (a folder has none).
        local: whether ``location`` is a folder.
        adapter: language adapter to put into the model (MMS), or None.
    """

    name: str
    location: str
    revision: str | None
    local: bool
    adapter: str | None = None


@lru_cache
def registry() -> Mapping[str, Mapping[str, Any]]:
    """The known upstreams of ``data_manifest/upstreams.yaml`` by name."""
    return read_yaml(DATA_FOLDER / "upstreams.yaml")


def resolve(name: str, revision: str | None = None) -> Source:
    """Finds a model by registry name, hub id (``organisation/model``) or local folder, each maybe with ``+adapter``.

    Args:
        revision: commit that is asked for in the place of the registry's or the newest; of no meaning for a folder.

    Raises:
        UpstreamError: the name is none of these, or the folder holds no model.
    """
    model, adapter = split_adapter(name)
    if is_local_folder(name):
        folder = Path(model).expanduser().absolute()
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
        return Source(store_name(name), str(folder), None, True, adapter)
    if model in registry():
        entry = registry()[model]
        return Source(name, entry["id"], revision or entry.get("revision"), False, adapter)
    if model.count("/") == 1:
        return Source(store_name(name), model, revision, False, adapter)
    raise UpstreamError(
        f"Upstream {name!r} is not known.",
        field="UPSTREAMS",
        expected="acoustic, logmel, mfcc, prosody, egemaps, compare, a hub id such as facebook/hubert-base-ls960, "
        f"a folder such as ./my-model, or one of: {' '.join(sorted(registry()))}",
        hint="choose one of these (data_manifest/upstreams.yaml)",
    )

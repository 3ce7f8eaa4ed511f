"""Language adapters of MMS (Pratap et al. 2023, arXiv 2305.13516): a small network in each block, a file a language."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from mser.errors import UpstreamError
from mser.upstream.loading import first_line, not_fetched
from mser.upstream.registry import Source

FILE = "adapter.{}.safetensors"


def load_adapter(model: Any, source: Source) -> tuple[str, ...]:
    """Puts the adapter that ``source`` names into the model; returns what is to be said to the user.

    Raises:
        UpstreamError: the model takes no adapters, or the adapter does not exist or does not fit.
    """
    own = {name: value for name, value in model.state_dict().items() if ".adapter_layer." in name}
    if source.adapter is None:
        return ("The adapter in the checkpoint itself is used; name another as MODEL+LANGUAGE.",) if own else ()
    if not own:
        raise UpstreamError(
            f"{source.name} takes no adapters.",
            field="UPSTREAMS",
            expected="a model whose config.json has adapter_attn_dim, such as facebook/mms-1b-all",
            found=source.location,
            hint=f"leave +{source.adapter} out",
        )
    path = _file(source, getattr(model.config, "_commit_hash", None))
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        what = "An adapter cannot be read."
        raise UpstreamError(what, file=path, expected="safetensors", found=first_line(error)) from error
    # The file is of a model with a head: wav2vec2.encoder.layers..., and the head of its language.
    new = {"encoder." + name.split("encoder.", 1)[1]: value for name, value in weights.items() if "encoder." in name}
    shapes, wanted = _shapes(new), _shapes(own)
    if shapes != wanted:
        names = sorted(name for name in {*shapes, *wanted} if shapes.get(name) != wanted.get(name))
        raise UpstreamError(
            "An adapter does not fit the model.",
            file=path,
            field=names[0],
            expected=wanted.get(names[0], "no such weight"),
            found=shapes.get(names[0], "no such weight"),
        )
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(new[name])
    return ()


def _shapes(weights: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in weights.items()}


def _file(source: Source, commit: str | None) -> Path:
    """The adapter's file, of the same commit as the model."""
    name = FILE.format(source.adapter)
    if source.local:
        path = Path(source.location) / name
        if not path.is_file():
            there = sorted(path.parent.glob(FILE.format("*")))
            found = [other.name.removeprefix("adapter.").removesuffix(".safetensors") for other in there]
            raise _unknown(source, ", ".join(found) or "no adapters")
        return path
    where: dict[str, Any] = {"repo_id": source.location, "filename": name, "revision": commit or source.revision}
    try:
        return Path(huggingface_hub.hf_hub_download(**where, local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    try:
        return Path(huggingface_hub.hf_hub_download(**where))
    except LocalEntryNotFoundError as error:
        raise not_fetched(source, error) from error
    except EntryNotFoundError as error:
        raise _unknown(source, "no such file in the repository") from error
    except Exception as error:  # the hub's client raises its own and its HTTP library's kinds
        raise not_fetched(source, error) from error


def _unknown(source: Source, found: str) -> UpstreamError:
    return UpstreamError(
        f"{source.location} has no adapter {source.adapter!r}.",
        field="UPSTREAMS",
        expected=FILE.format(source.adapter),
        found=found,
        hint="name one it has: MODEL+LANGUAGE, such as facebook/mms-1b-all+deu",
    )

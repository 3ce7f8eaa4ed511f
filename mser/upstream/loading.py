"""Loading of configurations, input recipes and weights: local files first, never a line of a model's own code."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
import transformers
from torch import nn

from mser.errors import UpstreamError
from mser.upstream.registry import Source

# Where the hub has only a pickle, transformers would ask a service in the background to convert it there.
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
# Its bars and advice would stand between ours; what matters is raised as an error.
transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()
logging.getLogger("huggingface_hub").setLevel(logging.ERROR)

SAMPLE_RATE = 16_000
#: Weights that influence no hidden state: of training alone, or behind the last block.
UNUSED = ("masked_spec_embed", "adapter.", "intermediate_ffn.", "encoder.upsample.")
#: What the names of an encoder's weights begin with. (The head of ForXVector has a `feature_extractor` of its own.)
ENCODER_PARTS = ("encoder.", "feature_projection.", "feature_extractor.conv_layers.")


def load_config(source: Source) -> Any:
    """The configuration of a model, from a folder, the local cache, or else the hub.

    Raises:
        UpstreamError: it is in none of them, or names code of its own.
    """
    config = from_pretrained(transformers.AutoConfig, source)
    _refuse_own_code(config, source, "config.json")
    return config


def at_commit(source: Source) -> Source:
    """The source at the commit that its revision, or the newest, stands for; itself where that cannot be told.

    Call it once the configuration was loaded, so that the cache holds it: transformers does not say any more which
    commit it took, and without it a store would not know what its states were made by.
    """
    if source.local:
        return source
    cache = huggingface_hub.constants.HF_HUB_CACHE
    file = huggingface_hub.try_to_load_from_cache(
        source.location, "config.json", cache_dir=cache, revision=source.revision
    )
    return replace(source, revision=Path(file).parent.name) if isinstance(file, str) else source


def load_feature_extractor(source: Source, default: Any) -> tuple[Any, tuple[str, ...]]:
    """The input recipe beside the model, or ``default`` where a local folder has none; and what to say of it.

    Raises:
        UpstreamError: there is one that cannot be read, is of another kind than the family's, has code of its own
            or another sample rate, or the hub's cannot be had: another recipe would silently give other states.
    """
    names = ("preprocessor_config.json", "processor_config.json")
    if source.local and not any((Path(source.location) / name).is_file() for name in names):
        return default, (f"No {names[0]} beside the model: the usual recipe of {type(default).__name__} is taken.",)
    recipe = from_pretrained(transformers.AutoFeatureExtractor, source)
    _refuse_own_code(recipe, source, names[0])
    for field, expected, found in [
        ("feature_extractor_type", type(default).__name__, type(recipe).__name__),
        ("sampling_rate", SAMPLE_RATE, recipe.sampling_rate),
    ]:
        if expected != found:
            what = "The input recipe beside the model is not this family's."
            raise UpstreamError(what, file=source.location, field=field, expected=expected, found=found)
    return recipe, ()


def load_weights(
    source: Source, kind: Any = transformers.AutoModel, parts: tuple[str, ...] = ENCODER_PARTS, **options: Any
) -> tuple[Any, tuple[str, ...]]:
    """The pretrained encoder in float32 and evaluation mode, and the parts of the checkpoint it has no use for.

    Pickled weights are read by torch's reader of tensors alone (``weights_only``).

    Args:
        kind: class that loads it.
        parts: what the names of the encoder's weights begin with.

    Raises:
        UpstreamError: it cannot be found or loaded; the checkpoint lacks weights of the encoder, has them in another
            shape, or has more of them than the configuration says. Without this check the rest would be random.
    """
    asked = {"dtype": torch.float32, "weights_only": True, "output_loading_info": True, "ignore_mismatched_sizes": True}
    model, found = from_pretrained(kind, source, **asked, **options)
    missing = [name for name in found["missing_keys"] if not name.startswith(UNUSED)]
    if source.adapter is not None:  # its file brings them
        missing = [name for name in missing if ".adapter_layer." not in name]
    mismatched = [entry if isinstance(entry, str) else entry[0] for entry in found["mismatched_keys"]]
    surplus = [name for name in found["unexpected_keys"] if name.startswith(parts)]
    for names, fault in [(mismatched, "in other shapes"), (missing, "missing"), (surplus, "not in its config.json")]:
        if names:
            raise UpstreamError(
                f"The checkpoint of {source.name} does not fit its configuration: weights are {fault}.",
                file=source.location,
                expected=f"every weight of a {model.config.model_type} encoder as config.json says, and no more",
                found=_some(names),
                hint="its names must be those of the transformers model; convert the checkpoint",
            )
    ignored = sorted({name.split(".")[0] for name in found["unexpected_keys"]})
    return model.eval().requires_grad_(False), tuple(ignored)


def from_pretrained(kind: Any, source: Source, **options: Any) -> Any:
    """Asks the local files first: offline, nothing is sent; the hub only for what is not there."""
    where = {"revision": source.revision, "trust_remote_code": False, **options}
    try:
        return kind.from_pretrained(source.location, local_files_only=True, **where)
    except Exception as error:  # damaged files raise whatever their reader raises
        if "trust_remote_code" in str(error):
            raise _own_code(source, "config.json") from error
        if source.local or not isinstance(error, OSError | ValueError):
            raise UpstreamError(
                f"The {'folder' if source.local else 'cache'}'s model cannot be loaded.",
                file=source.location,
                found=first_line(error),
                expected="a saved transformers speech model",
                hint="check its config.json and weights",
            ) from error
    try:
        return kind.from_pretrained(source.location, **where)
    except Exception as error:  # the hub's client raises its own and its HTTP library's kinds
        if "trust_remote_code" in str(error):
            raise _own_code(source, "config.json") from error
        raise not_fetched(source, error) from error


def not_fetched(source: Source, error: Exception) -> UpstreamError:
    """The error of a model that is neither here nor to be had."""
    return UpstreamError(
        f"Upstream {source.location!r} is not on this machine and could not be fetched.",
        field="UPSTREAMS",
        expected="a model on the hub, or in the local cache"
        + (f", of revision {source.revision}" if source.revision else ""),
        found=first_line(error),
        hint="connect to the network, or copy the model here and give its folder: UPSTREAMS=./folder",
    )


def first_line(error: Exception) -> str:
    """What an exception says first."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def weights_sha256(module: nn.Module) -> str:
    """Hash over the names, shapes and bytes of all parameters and buffers that influence a hidden state."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        if not name.startswith(UNUSED):
            digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
            # A scalar has no bytes view.
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def recipe_sha256(values: Mapping[str, Any]) -> str:
    """Hash over the settings that determine how a waveform becomes the model's input."""
    return hashlib.sha256(json.dumps(dict(values), sort_keys=True).encode()).hexdigest()


def _refuse_own_code(settings: Any, source: Source, file: str) -> None:
    # transformers would pass over the code and take its own class of the same name: maybe another model.
    if getattr(settings, "auto_map", None):
        raise _own_code(source, file)


def _own_code(source: Source, file: str) -> UpstreamError:
    return UpstreamError(
        f"Upstream {source.name} wants to run code of its own, which is never done.",
        file=source.location,
        field=f"auto_map of {file}",
        expected="a model of a family that transformers itself implements",
        hint="where its encoder is a plain one, copy the model to a folder and take auto_map out of the copy",
    )


def _some(names: Iterable[str]) -> str:
    chosen = sorted(names)
    return ", ".join(chosen[:4]) + (f" and {len(chosen) - 4} more" if len(chosen) > 4 else "")

"""Loading of pretrained transformers, and the checks all of their families share."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from mser.errors import UpstreamError
from mser.upstream.base import Upstream, UpstreamInfo
from mser.upstream.registry import Source

# Its bars and advice would stand between ours; what matters is raised as an error.
transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()
logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def load_config(source: Source) -> transformers.PretrainedConfig:
    """The configuration of a model, from a folder, the local cache, or else the hub.

    Raises:
        UpstreamError: it is in none of them.
    """
    return _from_pretrained(transformers.AutoConfig, source)


def load_feature_extractor(source: Source, default: Any) -> Any:
    """The input recipe beside the model, or ``default`` where a local folder has none.

    Raises:
        UpstreamError: there is one that cannot be read, or the hub's cannot be had: another recipe would
            silently give other states.
    """
    names = ("preprocessor_config.json", "processor_config.json")
    if source.local and not any((Path(source.location) / name).is_file() for name in names):
        return default
    return _from_pretrained(transformers.AutoFeatureExtractor, source)


def load_weights(source: Source) -> nn.Module:
    """The pretrained model in float32 and evaluation mode; never runs code from the hub, never unpickles.

    Raises:
        UpstreamError: it cannot be found or loaded.
    """
    model = _from_pretrained(transformers.AutoModel, source, dtype=torch.float32, weights_only=True)
    return model.eval().requires_grad_(False)


def _from_pretrained(kind: Any, source: Source, **options: Any) -> Any:
    """Asks the local files first: offline, nothing is sent; the hub only for what is not there."""
    where = {"revision": source.revision, "trust_remote_code": False, **options}
    try:
        return kind.from_pretrained(source.location, local_files_only=True, **where)
    except (OSError, ValueError) as error:
        if source.local:
            raise UpstreamError(
                "The folder's model cannot be loaded.",
                file=source.location,
                found=_first_line(error),
                expected="a saved transformers speech model",
                hint="check its config.json and weights",
            ) from error
    try:
        return kind.from_pretrained(source.location, **where)
    except Exception as error:  # the hub's client raises its own and its HTTP library's kinds
        raise UpstreamError(
            f"Upstream {source.location!r} is not on this machine and could not be fetched.",
            field="UPSTREAMS",
            expected="a model on the hub, or in the local cache",
            found=_first_line(error),
            hint="connect to the network, or copy the model here and give its folder: UPSTREAMS=./folder",
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def weights_sha256(module: nn.Module) -> str:
    """Hash over the names, shapes and bytes of all parameters and buffers."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}\n".encode())
        digest.update(value.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


class PretrainedUpstream(Upstream):
    """A frozen transformer encoder; a family says how waveforms become its input.

    Args:
        encoder: returns ``hidden_states`` of L entries, each (B, T, D).
    """

    def __init__(self, encoder: nn.Module, info: UpstreamInfo, device: torch.device) -> None:
        self.encoder = encoder.to(device)
        self.info = info
        self.device = device

    @torch.inference_mode()
    def hidden_states(self, inputs: Tensor) -> Tensor:
        """Runs the encoder: its input for B utterances -> (B, L, T, D) float32 on the CPU.

        Raises:
            UpstreamError: the model returns other layers or dims than its configuration promises.
        """
        output = self.encoder(inputs.to(self.device), output_hidden_states=True)
        states = torch.stack([state.float() for state in output.hidden_states], dim=1).cpu()
        if states.shape[1] != self.info.layers or states.shape[3] != self.info.dim:
            raise UpstreamError(
                f"{self.info.name} returned hidden states of an unexpected shape.",
                expected=f"(utterances, {self.info.layers}, frames, {self.info.dim})",
                found=tuple(states.shape),
                hint="this model needs its own module in mser/upstream",
            )
        return states

    def _require_frames(self, waveforms: Sequence[Tensor], longest: int | None = None) -> None:
        for waveform in waveforms:
            if self.num_frames(len(waveform)) < 1 or (longest is not None and len(waveform) > longest):
                limit = (
                    "at least one frame" if longest is None else f"one frame to {longest / self.info.sample_rate:g} s"
                )
                raise UpstreamError(
                    f"A recording does not fit {self.info.name}.",
                    expected=limit,
                    found=f"{len(waveform) / self.info.sample_rate:.3f} s",
                    hint="leave it out of the corpus, or cut it",
                )

"""Frozen speech models behind one interface. The only package that uses transformers."""

from __future__ import annotations

import torch

from mser.errors import UpstreamError
from mser.upstream.acoustic import ACOUSTIC_NAMES, load_acoustic
from mser.upstream.base import Upstream, UpstreamInfo
from mser.upstream.registry import resolve

__all__ = ["Upstream", "UpstreamInfo", "load_upstream"]


def load_upstream(name: str, device: torch.device) -> Upstream:
    """Loads an upstream by acoustic name, registry name, hub id or local folder.

    Raises:
        UpstreamError: it is not known, cannot be had, or is of a family that is not supported.
    """
    if name in ACOUSTIC_NAMES:
        return load_acoustic(name)
    # transformers takes seconds to import; the acoustic upstreams do not need it.
    from mser.upstream import wav2vec2, whisper
    from mser.upstream.pretrained import load_config

    if name == wav2vec2.RANDOM_NAME:
        return wav2vec2.random_wav2vec2(device)
    source = resolve(name)
    family = load_config(source).model_type
    if family == "whisper":
        return whisper.WhisperUpstream(source, device)
    if family in wav2vec2.FAMILIES:
        return wav2vec2.load_wav2vec2(source, device)
    raise UpstreamError(
        f"Upstream {name!r} is a model of family {family!r}, which is not supported.",
        field="UPSTREAMS",
        expected=", ".join(sorted({*wav2vec2.FAMILIES, "whisper"})),
        found=family,
        hint="choose another upstream",
    )

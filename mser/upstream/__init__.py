"""Frozen speech models behind one interface. The only package that uses transformers."""

from __future__ import annotations

import torch

from mser.errors import UpstreamError
from mser.upstream.acoustic import ACOUSTIC_NAMES, load_acoustic
from mser.upstream.base import POLICIES, Prepared, Upstream, UpstreamInfo
from mser.upstream.batching import Measurement, choose, compare_compute, measure
from mser.upstream.opensmile import OPENSMILE_NAMES, load_opensmile
from mser.upstream.registry import resolve

__all__ = [
    "POLICIES",
    "Measurement",
    "Prepared",
    "Upstream",
    "UpstreamInfo",
    "choose",
    "compare_compute",
    "load_upstream",
    "measure",
]


def load_upstream(
    name: str,
    device: torch.device,
    *,
    policy: str | None = None,
    compute: str = "float32",
    revision: str | None = None,
) -> Upstream:
    """Loads an upstream by acoustic or openSMILE name, registry name, hub id or folder, with ``+adapter`` if need be.

    Args:
        policy: how to batch, one of ``POLICIES``. None: each utterance alone (Whisper: equal lengths), until one
            is chosen by measurement (``measure``, ``choose``) and handed to ``use``.
        compute: what the model calculates in: ``float32``, or on CUDA ``float16`` or ``bfloat16``. Acoustic
            and openSMILE upstreams know only ``float32``.
        revision: commit of a model of the hub. None: the registry's, or the newest.

    Raises:
        UpstreamError: it is not known, cannot be had, is of a family that is not supported, or cannot be run so.
    """
    upstream = _load(name, device, compute, revision)
    if policy is not None:
        upstream.use(policy)
    return upstream


def _load(name: str, device: torch.device, compute: str, revision: str | None) -> Upstream:
    if name in ACOUSTIC_NAMES or name in OPENSMILE_NAMES:
        if compute != "float32":
            what = f"{name} is computed in float32."
            raise UpstreamError(what, field="COMPUTE", expected="float32", found=compute)
        return load_acoustic(name) if name in ACOUSTIC_NAMES else load_opensmile(name)
    # transformers takes seconds to import; the acoustic upstreams do not need it.
    from mser.upstream import wav2vec2, wav2vec2_bert, whisper
    from mser.upstream.loading import at_commit, load_config
    from mser.upstream.pretrained import require_compute

    require_compute(compute, device)
    if name == wav2vec2.RANDOM_NAME:
        return wav2vec2.random_wav2vec2(device, compute)
    source = resolve(name, revision)
    family = load_config(source).model_type
    source = at_commit(source)
    if source.adapter is not None and family not in ("wav2vec2", "hubert"):
        what = f"{source.location} is a model of family {family!r}, which takes no adapters."
        raise UpstreamError(what, field="UPSTREAMS", found=name, hint=f"leave +{source.adapter} out")
    if family == "whisper":
        return whisper.load_whisper(source, device, compute)
    if family == "wav2vec2-bert":
        return wav2vec2_bert.load_wav2vec2_bert(source, device, compute)
    if family in wav2vec2.FAMILIES:
        return wav2vec2.load_wav2vec2(source, device, compute)
    raise UpstreamError(
        f"Upstream {name!r} is a model of family {family!r}, which is not supported.",
        field="UPSTREAMS",
        expected=", ".join(sorted({*wav2vec2.FAMILIES, "wav2vec2-bert", "whisper"})),
        found=family,
        hint="choose another upstream",
    )

"""How an upstream is to be run for a store: as the store was begun, as the user says, or as a measurement shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from extract.plan import choose_sample, make_plan
from mser.audio import read_waveform
from mser.config import write_json
from mser.errors import ConfigError, UpstreamError
from mser.manifest import Manifest
from mser.store import Provenance
from mser.store.provenance import FILE_NAME
from mser.upstream import Measurement, Upstream, choose, compare_compute, load_upstream, measure
from mser.upstream.batching import EXACT

RECORD = "batching.json"
#: Utterances, from the longest to the shortest, and seconds of each, that a measurement runs.
SAMPLE, SAMPLE_SECONDS = 6, 10.0


@dataclass(frozen=True)
class Choice:
    """A policy, and what it was chosen by.

    Attributes:
        measurements: none where nothing was measured: the store or the user said the policy, or a CPU runs it.
        compute_differences: of half precision from float32, a layer; none in float32.
    """

    policy: str
    measurements: tuple[Measurement, ...] = ()
    compute_differences: tuple[float, ...] = ()

    def write(self, store_folder: Path, device: str) -> None:
        """Records the measurement beside the store; it describes a machine, and is no part of the fingerprint."""
        record: dict[str, Any] = {**asdict(self), "device": device}
        write_json(store_folder / RECORD, record)


def recorded(store_folder: Path) -> dict[str, Any]:
    """What the store says of its upstream; empty where there is no store yet.

    Raises:
        StoreError: the store's description is damaged, or of another schema version.
    """
    return dict(Provenance.read(store_folder).upstream) if (store_folder / FILE_NAME).is_file() else {}


def choose_policy(
    upstream: Upstream, name: str, store_folder: Path, batching: str, sample: Callable[[], Sequence[Tensor]]
) -> Choice:
    """The policy for a store: the user's, or the store's own, or on CUDA a measured one.

    Half precision is compared with float32 before a store is begun in it.

    Args:
        name: by which the upstream was loaded.
        batching: ``auto``, or one of ``POLICIES``.
        sample: gives waveforms of different lengths to measure on.

    Raises:
        UpstreamError: half precision overflows.
    """
    before = recorded(store_folder)
    if before or upstream.device.type != "cuda":
        begun = before.get("policy", upstream.info.policy)
        return Choice(begun if batching == "auto" else batching)
    waveforms = sample()
    differences: tuple[float, ...] = ()
    if upstream.info.compute != "float32":
        full = load_upstream(name, upstream.device)
        differences = compare_compute(upstream, full, waveforms)
    if batching != "auto":
        return Choice(batching, (), differences)
    found = tuple(measure(upstream, waveforms))
    return Choice(choose(found, upstream.device, max([EXACT, *differences])), found, differences)


def sample_waveforms(manifest: Manifest, folder: Path, upstream: Upstream, count: int = SAMPLE) -> list[Tensor]:
    """The beginnings of ``count`` recordings of different lengths, mixed: long ones beside short ones."""
    plan = make_plan(manifest.utterances, upstream, SAMPLE_SECONDS, 0.0)
    rate = upstream.info.sample_rate
    chosen = [read_waveform(folder / row.path, rate)[0] for row, _ in choose_sample(plan, count)]
    if not chosen:
        raise UpstreamError(
            f"No recording of {manifest.corpus} fits {upstream.info.name}.", field="UPSTREAMS", found="no frame at all"
        )
    cut = [waveform[: int(SAMPLE_SECONDS * rate)] for waveform in chosen]
    return [*cut[::2], *cut[1::2]]


def as_if_on(upstream: Upstream, compute: str) -> Upstream:
    """An upstream that plans for workers which compute in another precision than this process could."""
    upstream.info = replace(upstream.info, compute=compute)
    return upstream


def pick_device(name: str) -> torch.device:
    """The device by name; ``auto`` takes CUDA where there is one.

    Raises:
        ConfigError: no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        known = device.type in ("cpu", "cuda")
    except RuntimeError:
        known = False
    if not known:
        raise ConfigError("No such device.", field="DEVICE", expected="auto, cpu, cuda or cuda:N", found=name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            "The CUDA device is not there.",
            field="DEVICE",
            expected=f"one of {torch.cuda.device_count()} CUDA devices",
            found=name,
            hint="use DEVICE=cpu or DEVICE=auto",
        )
    return device

"""How an upstream is run for a store; measuring itself is tested beside the upstreams."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from extractions import noise, recorded

from extract import choose
from extract.choose import choose_policy, sample_waveforms
from extract.states import extract
from mser.upstream import Measurement, Upstream, load_upstream

NAME = "random-tiny-wav2vec2"
MEASURED = [
    Measurement("masked", (1e-6, 3e-3), 0.1, 1.0),
    Measurement("solo convolutions", (1e-6, 2e-6), 0.4, 1.0),
    Measurement("solo", (0.0, 0.0), 1.0, 1.0),
]


@pytest.fixture
def upstream() -> Upstream:
    return load_upstream(NAME, torch.device("cpu"))


@pytest.fixture
def on_cuda(upstream: Upstream, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """An upstream as if it were on CUDA, with measurements made up; returns what was loaded to compare with."""
    loaded: list[Any] = []
    upstream.device = torch.device("cuda")
    monkeypatch.setattr(choose, "measure", lambda upstream, waveforms: MEASURED)
    monkeypatch.setattr(choose, "load_upstream", lambda name, device: loaded.append((name, device)))
    monkeypatch.setattr(choose, "compare_compute", lambda half, full, waveforms: (1e-3, 5e-3))
    return loaded


def never() -> list[torch.Tensor]:
    raise AssertionError("nothing is to be measured")


def test_on_a_cpu_nothing_is_measured_and_the_user_is_heard(upstream: Upstream, tmp_path: Path) -> None:
    assert choose_policy(upstream, NAME, tmp_path, "auto", never).policy == "solo"
    assert choose_policy(upstream, NAME, tmp_path, "masked", never).policy == "masked"


def test_a_store_goes_on_as_it_was_begun(upstream: Upstream, tmp_path: Path) -> None:
    manifest = recorded(tmp_path / "corpora", [noise(6_000 + 480 * number, number) for number in range(3)])
    upstream.use("masked")
    extract(manifest, tmp_path / "corpora" / "toy", upstream, tmp_path / "s")
    again = load_upstream(NAME, torch.device("cpu"))
    assert choose_policy(again, NAME, tmp_path / "s", "auto", never).policy == "masked"
    again.device = torch.device("cuda")
    assert choose_policy(again, NAME, tmp_path / "s", "auto", never).policy == "masked"


def test_on_cuda_the_fastest_exact_policy_is_taken_and_recorded(
    upstream: Upstream, on_cuda: list[Any], tmp_path: Path
) -> None:
    choice = choose_policy(upstream, NAME, tmp_path / "s", "auto", list)
    assert (choice.policy, on_cuda) == ("solo convolutions", [])
    choice.write(tmp_path, "cuda")
    record = json.loads((tmp_path / choose.RECORD).read_text(encoding="utf-8"))
    assert record["measurements"][0]["differences"] == [1e-6, 3e-3]


@pytest.mark.parametrize(("batching", "policy"), [("auto", "masked"), ("solo", "solo")])
def test_half_precision_is_compared_with_the_same_model_in_float32(
    upstream: Upstream, on_cuda: list[Any], tmp_path: Path, batching: str, policy: str
) -> None:
    # What half precision itself differs by may be lost to batching too.
    upstream.info = replace(upstream.info, compute="float16", source="a folder's last part")
    choice = choose_policy(upstream, "./a/folder", tmp_path / "s", batching, list)
    assert (choice.policy, choice.compute_differences) == (policy, (1e-3, 5e-3))
    assert on_cuda == [("./a/folder", torch.device("cuda"))]


def test_a_sample_has_long_and_short_recordings_side_by_side(upstream: Upstream, tmp_path: Path) -> None:
    lengths = [4_000 * number for number in range(1, 13)] + [200_000]
    manifest = recorded(tmp_path / "corpora", [noise(length, length) for length in lengths])
    sample = [len(one) for one in sample_waveforms(manifest, tmp_path / "corpora" / "toy", upstream)]
    assert len(sample) == choose.SAMPLE
    assert max(sample) == 160_000
    assert sample != sorted(sample)
    assert sample != sorted(sample, reverse=True)

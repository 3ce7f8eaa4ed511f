"""Windows of long recordings: frames tile the recording, lie on its grid, and have heard enough on both sides."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from extractions import RATE, Ruler, noise, ramp, recorded
from hypothesis import given, settings
from hypothesis import strategies as st

from extract.states import Settings, extract
from mser.errors import ConfigError, UpstreamError
from mser.store import Store
from mser.upstream import load_upstream
from mser.upstream.windows import pieces_of, require_windows


@settings(max_examples=300, deadline=None)
@given(
    total=st.integers(1, 12 * RATE),
    window=st.one_of(st.just(1.0), st.floats(1.0, 4.0)),
    share=st.one_of(st.just(0.0), st.just(0.5), st.floats(0.0, 0.5)),
    step=st.integers(100, 700),
    kernels=st.floats(0.1, 2.5),
    padded=st.booleans(),
    longest=st.one_of(st.none(), st.integers(RATE, 2 * RATE)),
)
def test_kept_frames_tile_the_recording_and_have_heard_half_the_overlap(
    total: int, window: float, share: float, step: int, kernels: float, padded: bool, longest: int | None
) -> None:
    upstream = Ruler(step, max(1, int(step * kernels)), padded, longest)
    overlap = window * share
    require_windows(window, overlap)
    pieces = pieces_of(total, upstream, window, overlap)
    frames = [number for one in pieces for number in range(one.start // step + one.skip, one.start // step + one.skip
                                                           + one.frames)]  # fmt: skip
    assert frames == list(range(upstream.num_frames(total)))
    for one in pieces:
        assert one.start % step == 0
        assert 0 <= one.start < one.end <= total
        assert one.num_samples <= min(window * RATE, longest or total)
        assert one.frames > 0 <= one.skip
        assert one.skip + one.frames <= upstream.num_frames(one.num_samples)
        first = one.start + one.skip * step
        behind_last = first + one.frames * step
        half = min(overlap, (longest or total) / RATE / 2) * RATE / 2 - max(2 * step, upstream.kernel)
        assert not one.start or first - one.start >= half
        assert one.end == total or one.end - behind_last >= half


@pytest.mark.parametrize("beyond", [-1, 0, 1, 159, 160, 161, 480, 16_000, 40_001])
@pytest.mark.parametrize("overlap", [0.0, 0.013, 0.25, 0.5])
@pytest.mark.parametrize("padded", [False, True])
def test_states_stored_in_windows_lie_where_those_of_the_whole_would(
    beyond: int, overlap: float, padded: bool, tmp_path: Path
) -> None:
    total, upstream = RATE + beyond, Ruler(padded=padded)
    manifest = recorded(tmp_path, [ramp(total)])
    extract(manifest, tmp_path / "toy", upstream, tmp_path / "s", Settings("float32", window=1.0, overlap=overlap))
    frames = Store(tmp_path / "s").frames("toy/u000")
    (whole,) = upstream.states([torch.from_numpy(ramp(total))])
    np.testing.assert_array_equal(frames[0, :, :1], whole[0, :, :1])
    first, start, end = frames[0][:, [0, 2, 3]].T - 1
    assert bool(beyond > 0) == bool((end + 1 < total).any())
    context = overlap * RATE / 2 - upstream.kernel
    assert ((start == 0) | (first - start >= context)).all()
    assert ((end + 1 == total) | (end - first >= context)).all()
    assert (end - start < RATE).all()


@pytest.mark.parametrize("name", ["logmel", "random-tiny-wav2vec2"])
def test_a_long_recording_is_the_windows_joined_by_hand(name: str, tmp_path: Path) -> None:
    upstream = load_upstream(name, torch.device("cpu"))
    step, waveforms = upstream.frame_samples, [noise(54_321), noise(16_000, 1), noise(9_000, 2)]
    manifest = recorded(tmp_path, waveforms)
    summary = extract(
        manifest, tmp_path / "toy", upstream, tmp_path / "s", Settings("float32", window=1.0, overlap=0.4)
    )
    assert summary.windowed == 1
    store, known = Store(tmp_path / "s"), 0
    parts: list[torch.Tensor] = []
    size, shared = RATE // step * step, int(0.4 * RATE) // step * step
    while known < upstream.num_frames(54_321):
        start = max(0, len(parts) * (size - shared))
        start = min(start, -(-(54_321 - size) // step) * step)
        end = min(start + size, 54_321)
        (states,) = upstream.states([torch.from_numpy(waveforms[0][start:end])])
        following = min(start + size - shared, -(-(54_321 - size) // step) * step)
        cut = upstream.num_frames(54_321) if end == 54_321 else (following + end) // 2 // step
        parts.append(states[:, known - start // step : cut - start // step])
        known = cut
    joined = torch.cat(parts, dim=1).numpy()
    frames = store.frames("toy/u000")
    np.testing.assert_array_equal(frames, joined)
    exact = joined.astype(np.float64)
    pooled = store.pooled(["toy/u000"])[0]
    np.testing.assert_allclose(pooled[:, 0], exact.mean(1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pooled[:, 1], exact.std(1), rtol=1e-4, atol=1e-6)
    for key, waveform in (("toy/u001", waveforms[1]), ("toy/u002", waveforms[2])):
        np.testing.assert_array_equal(store.frames(key), upstream.states([torch.from_numpy(waveform)])[0])
    if name == "logmel":  # it hears 200 samples on either side, so the cuts leave no trace but that of the mean
        (whole,) = upstream.states([torch.from_numpy(waveforms[0])])
        np.testing.assert_allclose(frames, whole, atol=0.05)
        np.testing.assert_allclose(frames[:, :, 3:], whole[:, :, 3:], atol=2e-4)


def test_without_windows_a_recording_is_run_whole_or_refused_where_the_model_has_a_limit(tmp_path: Path) -> None:
    manifest = recorded(tmp_path, [ramp(40_000), ramp(20_000)])
    whole_only = Settings("float32", window=0.0)
    extract(manifest, tmp_path / "toy", Ruler(), tmp_path / "s", whole_only)
    (whole,) = Ruler().states([torch.from_numpy(ramp(40_000))])
    np.testing.assert_array_equal(Store(tmp_path / "s").frames("toy/u000"), whole)
    with pytest.raises(UpstreamError, match="1 recordings do not fit ruler") as error:
        extract(manifest, tmp_path / "toy", Ruler(longest=32_000), tmp_path / "t", whole_only)
    assert error.value.file == "toy/u000"
    assert "WINDOW=30" in str(error.value)
    assert list(Store(tmp_path / "t")) == ["toy/u001"]
    extract(manifest, tmp_path / "toy", Ruler(longest=32_000), tmp_path / "u")
    assert len(Store(tmp_path / "u")) == 2


@pytest.mark.parametrize(
    ("window", "overlap"),
    [(0.5, 0.1), (-1, 0), (30, -1), (30, 15.1), (float("inf"), 4), (float("nan"), 4), (30, float("nan"))],
)
def test_windows_that_make_no_sense_are_refused(window: float, overlap: float) -> None:
    with pytest.raises(ConfigError, match="at least a second"):
        Settings(window=window, overlap=overlap)

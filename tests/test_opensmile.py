"""openSMILE's functionals against the package called by hand, and what it does with odd input."""

from __future__ import annotations

import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from mser.errors import UpstreamError
from mser.upstream import opensmile as module
from mser.upstream.base import Prepared, Upstream
from mser.upstream.opensmile import OPENSMILE_NAMES, load_opensmile

RATE = 16_000
DIMS = {"egemaps": 88, "compare": 6373}
Loaded = dict[str, Upstream]


def tensor(values: np.ndarray) -> torch.Tensor:
    """Float32 tensor of a numpy array."""
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def noise(num_samples: int, seed: int = 0, scale: float = 0.1) -> torch.Tensor:
    """White Gaussian noise."""
    return tensor(np.random.default_rng(seed).standard_normal(num_samples) * scale)


def voice(num_samples: int, pitch: float = 150.0) -> torch.Tensor:
    """Ten harmonics of a pitch in Hz, swelling once a second."""
    time = np.arange(num_samples) / RATE
    tone = sum(np.cos(2 * np.pi * pitch * k * time + k * k) / k for k in range(1, 11))
    return tensor(0.1 * np.asarray(tone) * (1.2 - np.cos(2 * np.pi * time)))


@pytest.fixture(scope="module")
def package() -> Any:
    return pytest.importorskip("opensmile", reason="openSMILE is an optional extra: pip install 'mser[opensmile]'")


@pytest.fixture(scope="module")
def loaded(package: Any) -> Loaded:
    return {name: load_opensmile(name) for name in OPENSMILE_NAMES}


@pytest.mark.parametrize("name", DIMS)
@pytest.mark.parametrize("wave", [voice(20_000), noise(9_000), voice(960), torch.zeros(16_000)])
def test_values_are_those_of_the_package(package: Any, loaded: Loaded, name: str, wave: torch.Tensor) -> None:
    smile = package.Smile(OPENSMILE_NAMES[name], package.FeatureLevel.Functionals)
    expected = smile.process_signal(wave.numpy(), RATE)
    (states,) = loaded[name].states([wave])
    assert states.shape == (1, 1, DIMS[name])
    assert states.dtype == torch.float32
    np.testing.assert_array_equal(states[0], expected.to_numpy())
    assert module.OpenSmileUpstream(name).feature_names == list(expected.columns)


@pytest.mark.parametrize("name", DIMS)
def test_info(package: Any, loaded: Loaded, name: str) -> None:
    upstream = loaded[name]
    info = upstream.info
    assert (info.name, info.family, info.source, info.policy) == (name, "opensmile", name, "solo")
    assert (info.layers, info.dim, info.frame_rate, info.sample_rate) == (1, DIMS[name], 0.0, RATE)
    assert info.revision == f"{package.__version__} {OPENSMILE_NAMES[name]}"
    assert (upstream.frame_samples, upstream.longest, upstream.possible) == (0, None, ("solo",))
    assert load_opensmile(name).info == info
    assert len({one.info.weights_sha256 for one in loaded.values()}) == len(loaded)


def test_every_configuration_file_changes_the_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "set.conf").write_text("frameSize = 0.025", encoding="utf-8")
    seen = {module._sha256(tmp_path, ["a", "b"]), module._sha256(tmp_path, ["b", "a"])}
    (tmp_path / "shared" / "part.conf.inc").write_text("nT = 5", encoding="utf-8")
    seen.add(module._sha256(tmp_path, ["a", "b"]))
    (tmp_path / "shared" / "part.conf.inc").write_text("nT = 6", encoding="utf-8")
    seen.add(module._sha256(tmp_path, ["a", "b"]))
    monkeypatch.setattr(module, "REVISION", "another")
    seen.add(module._sha256(tmp_path, ["a", "b"]))
    assert len(seen) == 5


@pytest.mark.parametrize(
    ("name", "feature"), [("egemaps", "F0semitoneFrom27.5Hz_sma3nz_amean"), ("compare", "F0final_sma_amean")]
)
def test_pitch_is_found_where_it_is(loaded: Loaded, name: str, feature: str) -> None:
    column = module.OpenSmileUpstream(name).feature_names.index(feature)
    low, high = (states[0, 0, column].item() for states in loaded[name].states([voice(RATE, 110), voice(RATE, 220)]))
    if name == "egemaps":
        assert (low, high) == pytest.approx((24, 36), abs=0.2)  # semitones above 27.5 Hz
    else:
        assert high / low == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("name", DIMS)
def test_a_waveform_does_not_depend_on_its_batch_or_on_what_ran_before(loaded: Loaded, name: str) -> None:
    waves = [noise(3000, seed=1), voice(12_000), torch.zeros(2000), noise(960, seed=2, scale=0.2)]
    together = loaded[name].states(waves)
    for wave, states in zip(waves, together, strict=True):
        before = wave.clone()
        assert torch.equal(states, loaded[name].states([wave])[0])
        assert torch.equal(wave, before)


def test_threads_may_share_an_upstream(loaded: Loaded) -> None:
    waves = [noise(960 + 700 * seed, seed) for seed in range(12)]
    jobs = [(name, wave) for wave in waves for name in OPENSMILE_NAMES] * 2

    def states(job: tuple[str, torch.Tensor]) -> torch.Tensor:
        upstream = loaded[job[0]]
        return upstream.run([upstream.prepare(job[1])])[0]

    alone = [states(job) for job in jobs]
    with ThreadPoolExecutor(8) as threads:
        shared = list(threads.map(states, jobs))
    assert all(torch.equal(one, other) for one, other in zip(alone, shared, strict=True))


@pytest.mark.parametrize("name", DIMS)
def test_60_ms_are_the_least(package: Any, loaded: Loaded, name: str) -> None:
    upstream = loaded[name]
    assert [upstream.num_frames(n) for n in (0, 1, 959, 960, 10**9)] == [0, 0, 0, 1, 1]
    smile = package.Smile(OPENSMILE_NAMES[name], package.FeatureLevel.Functionals)
    with pytest.warns(UserWarning, match="too short"):
        assert np.isnan(smile(noise(959).numpy(), RATE)).all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert upstream.states([noise(960)])[0].isfinite().all()
        with pytest.raises(UpstreamError, match=rf"(?s)does not fit {name}.*0\.060 s"):
            upstream.states([noise(959)])
        with pytest.raises(UpstreamError, match="does not fit"):
            upstream.run([upstream.prepare(noise(959))])


@pytest.mark.parametrize("name", DIMS)
@pytest.mark.parametrize("num_samples", [960, 5000])
def test_odd_sounds_are_finite(loaded: Loaded, name: str, num_samples: int) -> None:
    click = torch.zeros(num_samples)
    click[num_samples // 3] = 0.9
    every_second = torch.arange(num_samples) % 2
    sounds = [torch.zeros(num_samples), torch.full((num_samples,), 0.3), click, every_second * 2.0 - 1]
    sounds += [every_second / 32768, noise(num_samples, scale=3.0), torch.linspace(-1, 1, num_samples)]
    for states in loaded[name].states(sounds):
        assert states.isfinite().all()


def test_a_feature_that_is_not_finite_is_named(loaded: Loaded) -> None:
    nearly_silent = torch.zeros(RATE)
    nearly_silent[RATE // 3] = 1 / 32768
    assert loaded["egemaps"].states([nearly_silent])[0].isfinite().all()
    with pytest.raises(UpstreamError, match=r"(?s)of compare.*pcm_fftMag_spectralSlope_sma.*lpc.*NaN.*nearly silent"):
        loaded["compare"].states([nearly_silent])


@pytest.mark.parametrize("name", DIMS)
def test_what_is_too_loud_saturates(package: Any, loaded: Loaded, name: str) -> None:
    loud = 8 * voice(8000)
    assert loud.max() > 1
    assert loud.min() < -1
    clipped = np.clip(np.trunc(loud.numpy().astype(np.float64) * 32768), -32768, 32767) / 32768
    (states,) = loaded[name].states([loud])
    assert torch.equal(states, loaded[name].states([tensor(clipped)])[0])
    smile = package.Smile(OPENSMILE_NAMES[name], package.FeatureLevel.Functionals)
    np.testing.assert_array_equal(states[0], smile.process_signal(clipped.astype(np.float32), RATE).to_numpy())


def test_what_cannot_be_used_is_refused(loaded: Loaded) -> None:
    for upstream in loaded.values():
        with pytest.raises(UpstreamError, match=r"\(2, 8000\)"):
            upstream.prepare(torch.zeros(2, 8000))
        with pytest.raises(UpstreamError, match="2 of them not finite"):
            upstream.prepare(torch.tensor([0.0] * 8000 + [float("nan"), float("inf")]))
        with pytest.raises(UpstreamError, match="batched"):
            upstream.use("masked")
        prepared = upstream.prepare(noise(1000).double())
        assert isinstance(prepared, Prepared)
        assert (prepared.num_samples, prepared.features.dtype) == (1000, torch.float32)


def test_unknown_name() -> None:
    with pytest.raises(UpstreamError, match=r"(?s)egemaps, compare.*emobase"):
        load_opensmile("emobase")


@pytest.mark.parametrize("name", DIMS)
def test_the_package_is_missing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opensmile", None)  # what makes Python say ModuleNotFoundError
    with pytest.raises(UpstreamError, match=r'(?s)optional extra.*pip install "mser\[opensmile\]"') as caught:
        load_opensmile(name)
    assert isinstance(caught.value.__cause__, ImportError)


@pytest.mark.parametrize(
    "error",
    [
        OSError("libSMILEapi.so: cannot open shared object file"),
        RuntimeError("Unsupported platform Haiku"),
        UnicodeEncodeError("ascii", "/home/jürgen", 7, 8, "ordinal not in range(128)"),
    ],
)
def test_the_package_cannot_be_started(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(ModuleType):
        def __getattr__(self, name: str) -> Any:
            raise error

    monkeypatch.setitem(sys.modules, "opensmile", Broken("opensmile"))
    with pytest.raises(UpstreamError, match="cannot be started") as caught:
        load_opensmile("egemaps")
    assert caught.value.__cause__ is error
    assert str(error) in str(caught.value)


def test_the_package_is_not_imported_before_it_is_needed() -> None:
    program = "import sys, mser.upstream.opensmile\nprint({'opensmile', 'pandas', 'pyarrow'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"

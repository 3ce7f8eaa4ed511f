"""Decoding and resampling against soundfile's own samples, numpy's spectrum and scipy's resampler."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
import torch
from conftest import WriteTone, tone

from mser.audio import SUFFIXES, pcm_sha256, read_pcm, resampled_length, to_waveform
from mser.errors import AudioError

RATES = (8_000, 44_100, 48_000)
FORMATS = [("wav", "PCM_16"), ("wav", "PCM_24"), ("wav", "FLOAT"), ("flac", "PCM_16"), ("flac", "PCM_24")]


def strongest(waveform: np.ndarray, rate: int) -> tuple[float, float]:
    """Frequency in Hz and amplitude of the strongest line of a waveform's middle half."""
    middle = waveform[len(waveform) // 4 : -len(waveform) // 4]
    window = np.hanning(len(middle))
    spectrum = np.abs(np.fft.rfft(middle * window, 8 * len(middle)))
    peak = int(spectrum.argmax())
    return peak * rate / (8 * len(middle)), 2 * float(spectrum[peak]) / float(window.sum())


@pytest.mark.parametrize(("suffix", "subtype"), FORMATS)
@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("channels", [1, 2])
def test_a_recording_becomes_mono_at_the_rate_asked(
    tmp_path: Path, suffix: str, subtype: str, rate: int, channels: int
) -> None:
    path = tmp_path / f"x.{suffix}"
    written = tone(440.0, 0.5, rate, channels)
    soundfile.write(path, written, rate, subtype=subtype)
    samples, found = read_pcm(path)
    step = {"PCM_16": 2**-15, "PCM_24": 2**-23, "FLOAT": 2**-23}[subtype]
    assert (samples.dtype, samples.shape, found) == (np.float32, written.shape, rate)
    np.testing.assert_allclose(samples, written, atol=step)
    waveform = to_waveform(samples, rate, 16_000)
    assert (waveform.dtype, tuple(waveform.shape)) == (torch.float32, (8_000,))
    frequency, level = strongest(waveform.numpy(), 16_000)
    assert frequency == pytest.approx(440, abs=1)
    assert level == pytest.approx(0.25 * (1 if channels == 1 else 0.75), rel=0.01)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_lossy_recording_keeps_its_tone(tmp_path: Path, channels: int) -> None:
    soundfile.write(tmp_path / "x.ogg", tone(440.0, 0.5, 44_100, channels), 44_100)
    waveform = to_waveform(*read_pcm(tmp_path / "x.ogg"), 16_000).numpy()
    frequency, level = strongest(waveform, 16_000)
    assert frequency == pytest.approx(440, abs=2)
    assert level == pytest.approx(0.25 * (1 if channels == 1 else 0.75), rel=0.1)


def test_channels_are_averaged() -> None:
    samples = np.random.default_rng(0).uniform(-1, 1, (1_000, 3)).astype(np.float32)
    waveform = to_waveform(samples, 16_000, 16_000).numpy()
    np.testing.assert_allclose(waveform, samples.astype(np.float64).sum(axis=1) / 3, atol=1e-6)


@pytest.mark.parametrize(("rate", "up", "down"), [(8_000, 2, 1), (48_000, 1, 3), (44_100, 160, 441)])
def test_resampling_agrees_with_scipy_where_there_is_no_edge(rate: int, up: int, down: int) -> None:
    rng = np.random.default_rng(1)
    # Noise below 2.5 kHz: no resampler's transition band lies there.
    noise = scipy.signal.sosfiltfilt(scipy.signal.butter(8, 2_500, fs=rate, output="sos"), rng.standard_normal(rate))
    ours = to_waveform(0.1 * noise[:, None].astype(np.float32), rate, 16_000).numpy()
    theirs = scipy.signal.resample_poly(0.1 * noise, up, down, window=("kaiser", 14.0))
    assert ours.shape == theirs.shape
    inner = slice(800, -800)
    assert np.abs(ours - theirs)[inner].max() < 0.01 * np.abs(theirs).max()


def test_resampling_removes_what_the_new_rate_cannot_hold() -> None:
    waveform = to_waveform(tone(12_000.0, 0.5, 48_000).astype(np.float32), 48_000, 16_000).numpy()
    assert np.abs(waveform[800:-800]).max() < 0.25e-2


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000])
def test_the_length_is_as_stated(rate: int) -> None:
    common = math.gcd(rate, 16_000)
    # 500196 samples at 44100 Hz are one of the lengths that torchaudio, counting in float32, cuts by a sample.
    for num_samples in [*range(1, 60), 4_409, 4_410, 4_411, 100_001, 500_196]:
        length = len(to_waveform(np.ones((num_samples, 1), dtype=np.float32), rate, 16_000))
        assert length == resampled_length(num_samples, rate, 16_000)
        exact = -(-num_samples * (16_000 // common) // (rate // common))
        assert exact - 1 <= length <= exact
        assert length == exact or num_samples > 100_001


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_the_hash_is_of_the_samples_not_of_the_container(tmp_path: Path, subtype: str) -> None:
    # Whole numbers: from floats, each container's encoder rounds in its own way.
    bits = 16 if subtype == "PCM_16" else 24
    samples = np.random.default_rng(2).integers(-(2**bits) // 2, 2**bits // 2, (3_000, 2)) << (32 - bits)
    for suffix in ("wav", "flac", "aiff"):
        soundfile.write(tmp_path / f"x.{suffix}", samples.astype(np.int32), 22_050, subtype=subtype)
    hashes = {pcm_sha256(*read_pcm(path)) for path in tmp_path.iterdir()}
    assert len(hashes) == 1
    assert re.fullmatch("[0-9a-f]{64}", hashes.pop())


def test_the_hash_tells_samples_rates_and_channels_apart() -> None:
    samples = np.linspace(-0.5, 0.5, 100, dtype=np.float32)[:, None]
    changed = samples.copy()
    changed[50] += 2**-20
    variants = [(samples, 16_000), (samples, 8_000), (samples.reshape(50, 2), 16_000), (changed, 16_000)]
    assert len({pcm_sha256(values, rate) for values, rate in variants}) == 4
    assert pcm_sha256(np.asfortranarray(samples.reshape(50, 2)), 8_000) == pcm_sha256(samples.reshape(50, 2), 8_000)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([], "no samples"),
        ([0.0] * 100, "silent"),
        ([0.1, math.nan], "NaN or infinite"),
        ([math.inf], "NaN or infinite"),
    ],
)
def test_a_recording_without_usable_samples_is_refused(tmp_path: Path, values: list[float], reason: str) -> None:
    path = tmp_path / "x.wav"
    soundfile.write(path, np.array(values, dtype=np.float32), 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match=reason) as error:
        read_pcm(path)
    assert error.value.file == path


def test_what_is_no_recording_is_refused(tmp_path: Path, write_tone: WriteTone) -> None:
    text = tmp_path / "text.wav"
    text.write_text("this is no audio")
    (tmp_path / "empty.wav").touch()
    cut = write_tone(tmp_path / "whole.flac")
    cut.write_bytes(cut.read_bytes()[:30])
    for path in (text, tmp_path / "empty.wav", cut, tmp_path / "absent.wav", tmp_path):
        with pytest.raises(AudioError, match="cannot be decoded") as error:
            read_pcm(path)
        assert str(path) in str(error.value)


def test_every_container_soundfile_writes_here_is_looked_for(tmp_path: Path) -> None:
    for suffix in ("wav", "flac", "ogg", "aiff", "au", "caf", "w64", "rf64"):
        soundfile.write(tmp_path / f"x.{suffix}", tone(300.0, 0.1, 16_000), 16_000, format=suffix)
        assert read_pcm(tmp_path / f"x.{suffix}")[0].shape == (1_600, 1)
        assert f".{suffix}" in SUFFIXES

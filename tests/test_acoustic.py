"""Acoustic descriptors against numpy, scipy, plain loops and signals whose answer is known."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise, product

import numpy as np
import pytest
import torch
from scipy.fft import dct

from mser.errors import UpstreamError
from mser.upstream import acoustic
from mser.upstream.acoustic import ACOUSTIC_NAMES, RECIPE, feature_names, load_acoustic, track_pitch

RATE = 16_000
TIME = np.arange(RATE) / RATE  # one second


def tensor(values: np.ndarray) -> torch.Tensor:
    """Float32 tensor of a numpy array."""
    return torch.from_numpy(np.asarray(values, dtype=np.float32))


def noise(num_samples: int, seed: int = 0, scale: float = 0.1) -> torch.Tensor:
    """White Gaussian noise."""
    return tensor(np.random.default_rng(seed).standard_normal(num_samples) * scale)


def voice(pitch: float, seed: int = 0, decay: float = 1.0) -> np.ndarray:
    """One second of harmonics of a pitch in Hz, random in phase, falling with 1 / number ** decay."""
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, 40)
    harmonics = [k for k in range(1, 41) if k * pitch < 7000]
    tone = sum(np.cos(2 * np.pi * k * pitch * TIME + phases[k - 1]) / k**decay for k in harmonics)
    return 0.1 * np.asarray(tone)


def column(waveform: torch.Tensor, name: str) -> np.ndarray:
    """One feature (T,) of the ``prosody`` upstream."""
    return load_acoustic("prosody").states([waveform])[0][0, :, feature_names("prosody").index(name)].numpy()


@pytest.mark.parametrize("name", ACOUSTIC_NAMES)
@pytest.mark.parametrize("num_samples", [400, 401, 479, 480, 481, 559, 560, 1600, 16_001])
def test_frames_are_as_many_as_stated(name: str, num_samples: int) -> None:
    upstream = load_acoustic(name)
    (states,) = upstream.states([noise(num_samples)])
    assert states.shape == (1, 1 + num_samples // 160, upstream.info.dim)
    assert states.shape[1] == upstream.num_frames(num_samples)
    assert states.dtype == torch.float32
    assert states.isfinite().all()


def test_info_and_feature_names() -> None:
    for name, dim in {"logmel": 80, "mfcc": 39, "prosody": 13, "acoustic": 132}.items():
        upstream = load_acoustic(name)
        info = upstream.info
        assert (info.name, info.family, info.source, info.policy) == (name, "acoustic", name, "solo")
        assert (info.layers, info.dim, info.frame_rate, info.sample_rate) == (1, dim, 100.0, RATE)
        assert not info.random_weights
        assert upstream.feature_names == feature_names(name)
        assert len(set(upstream.feature_names)) == dim


def test_acoustic_is_the_three_side_by_side() -> None:
    wave = noise(5000) + tensor(voice(150))[:5000]
    parts = [load_acoustic(name).states([wave])[0] for name in ("logmel", "mfcc", "prosody")]
    assert torch.equal(load_acoustic("acoustic").states([wave])[0], torch.cat(parts, dim=2))
    names = feature_names("logmel") + feature_names("mfcc") + feature_names("prosody")
    assert feature_names("acoustic") == names


def test_every_constant_changes_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = {load_acoustic("acoustic").info.fingerprint}
    for field in fields(RECIPE):
        value = getattr(RECIPE, field.name)
        monkeypatch.setattr(acoustic, "RECIPE", replace(RECIPE, **{field.name: value * 2}))
        seen.add(load_acoustic("acoustic").info.fingerprint)
    assert len(seen) == 1 + len(fields(RECIPE))


def test_an_utterance_does_not_depend_on_its_batch() -> None:
    waves = [noise(3000, seed=1), tensor(voice(200)), noise(9000, seed=2, scale=0.9), torch.zeros(700)]
    upstream = load_acoustic("acoustic")
    together = upstream.states(waves)
    backwards = upstream.states(waves[::-1])[::-1]
    for wave, first, second in zip(waves, together, backwards, strict=True):
        assert torch.equal(first, second)
        assert torch.equal(first, upstream.states([wave])[0])


@pytest.mark.parametrize("name", ACOUSTIC_NAMES)
def test_what_cannot_be_used_is_refused(name: str) -> None:
    upstream = load_acoustic(name)
    assert [upstream.num_frames(number) for number in (0, 399, 400)] == [0, 0, 3]
    with pytest.raises(UpstreamError, match=r"(?s)does not fit.*at least one frame.*0.025 s"):
        upstream.states([noise(399)])
    with pytest.raises(UpstreamError, match=r"\(2, 800\)"):
        upstream.prepare(torch.zeros(2, 800))
    with pytest.raises(UpstreamError, match="1 of them not finite"):
        upstream.states([torch.tensor([0.0] * 800 + [float("nan")])])


def test_unknown_name() -> None:
    with pytest.raises(UpstreamError, match=r"(?s)acoustic, logmel, mfcc, prosody.*plp"):
        load_acoustic("plp")


@pytest.mark.parametrize("level", [0.0, 0.5, -1.0, 0.1])
def test_silence_and_constants(level: float) -> None:
    (states,) = load_acoustic("acoustic").states([torch.full((4000,), level)])
    assert states.isfinite().all()
    values = dict(zip(feature_names("acoustic"), states[0].T.numpy(), strict=True))
    np.testing.assert_allclose(values["logmel_40"], np.log(1e-10), rtol=1e-6)
    np.testing.assert_allclose(values["energy_db"], -100, atol=1e-4)
    assert not values["voiced"].any()
    assert (values["voicing"] < 0.01).all()
    for name in ("f0_delta", "energy_delta", "flux", "slope_0_500", "alpha_ratio_db"):
        np.testing.assert_allclose(values[name], 0, atol=1e-3)


def by_hand_mel(wave: np.ndarray) -> np.ndarray:
    """Log-mel (T, 80) by a direct Fourier sum over each frame and triangles drawn with ``interp``."""
    n = np.arange(400)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * n / 400)
    waves = np.exp(-2j * np.pi * np.outer(n, np.arange(257)) / 512)
    mirrored = np.pad(wave - wave.mean(), 200, mode="reflect")
    frames = np.stack([mirrored[t * 160 : t * 160 + 400] for t in range(1 + len(wave) // 160)])
    power = np.abs((frames * hann) @ waves / hann.sum()) ** 2
    low, high = 2595 * np.log10(1 + np.array([20, 8000]) / 700)
    corners = 700 * (10 ** (np.linspace(low, high, 82) / 2595) - 1)
    hertz = np.arange(257) * RATE / 512
    bank = np.stack([np.interp(hertz, corners[m : m + 3], [0, 1, 0]) for m in range(80)])
    return np.log(np.maximum(power @ bank.T, 1e-10))


def by_hand_delta(rows: np.ndarray) -> np.ndarray:
    """Regression slope over five frames, by a loop with the end frames repeated."""
    last, out = len(rows) - 1, np.zeros_like(rows)
    for t in range(len(rows)):
        for k in (1, 2):
            out[t] += k * (rows[min(t + k, last)] - rows[max(t - k, 0)]) / (2 * (1 + 4))
    return out


def test_logmel_against_a_direct_transform() -> None:
    wave = noise(4000, seed=3) + 0.05
    (states,) = load_acoustic("logmel").states([wave])
    np.testing.assert_allclose(states[0].numpy(), by_hand_mel(wave.double().numpy()), atol=2e-3)


def test_mfcc_against_scipy_and_a_loop() -> None:
    wave = noise(4000, seed=4)
    (states,) = load_acoustic("mfcc").states([wave])
    cepstra = dct(by_hand_mel(wave.double().numpy()), type=2, norm="ortho", axis=1)[:, :13]
    slopes = by_hand_delta(cepstra)
    expected = np.concatenate([cepstra, slopes, by_hand_delta(slopes)], axis=1)
    np.testing.assert_allclose(states[0].numpy(), expected, atol=2e-3)


def test_every_mel_band_hears_something() -> None:
    (states,) = load_acoustic("logmel").states([noise(RATE)])
    assert (states[0].mean(0) > np.log(1e-10) + 3).all()


@pytest.mark.parametrize("pitch", [66, 80, 100, 123, 150, 200, 247, 300, 333, 400, 500, 590])
@pytest.mark.parametrize("decay", [0.5, 1.0, 2.0])
def test_pitch_of_a_voice(pitch: float, decay: float) -> None:
    wave = tensor(voice(pitch, seed=int(pitch), decay=decay))
    f0, voicing = track_pitch(wave)
    np.testing.assert_allclose(f0[3:-3].numpy(), pitch, rtol=0.005)
    assert (voicing[3:-3] > 0.95).all()
    expected = 12 * np.log2(pitch / 27.5)
    np.testing.assert_allclose(column(wave, "f0_semitones")[3:-3], expected, atol=0.1)
    assert (column(wave, "voiced")[3:-3] == 1).all()


@pytest.mark.parametrize("pitch", [80, 150, 250, 400])
def test_pitch_in_noise_and_at_any_level(pitch: float) -> None:
    clean = voice(pitch)
    dirty = tensor(clean + clean.std() * 10**-0.5 * np.random.default_rng(5).standard_normal(RATE))  # 10 dB
    f0, _ = track_pitch(dirty)
    np.testing.assert_allclose(f0[3:-3].numpy(), pitch, rtol=0.02)
    np.testing.assert_allclose(column(dirty, "hnr_db")[3:-3].mean(), 10, atol=1.5)
    quiet, _ = track_pitch(0.01 * dirty)
    np.testing.assert_allclose(quiet.numpy(), f0.numpy(), rtol=1e-3)


def test_pitch_without_its_fundamental() -> None:
    tone = sum(np.cos(2 * np.pi * 120 * k * TIME) for k in range(3, 12))
    f0, _ = track_pitch(tensor(0.05 * np.asarray(tone)))
    np.testing.assert_allclose(f0[3:-3].numpy(), 120, rtol=0.005)


def test_every_second_period_a_little_weaker_is_not_an_octave_lower() -> None:
    pulses = np.zeros(RATE)
    pulses[::80], pulses[80::160] = 0.5, 0.47  # 200 Hz; alike to the last digit only at 100 Hz
    f0, _ = track_pitch(tensor(np.convolve(pulses, np.hanning(12), "same")))
    np.testing.assert_allclose(f0[3:-3].numpy(), 200, rtol=0.005)


def test_a_rising_pitch() -> None:
    pitch = 120 * 2**TIME  # one octave a second
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    wave = tensor(0.1 * np.asarray(sum(np.cos(k * phase) / k for k in range(1, 15))))
    f0, _ = track_pitch(wave)
    np.testing.assert_allclose(f0[3:-3].numpy(), pitch[::160][3 : len(f0) - 3], rtol=0.01)
    np.testing.assert_allclose(column(wave, "f0_delta")[6:-6], 12 / 100, atol=0.03)


def test_noise_is_not_a_voice() -> None:
    for seed in range(3):
        wave = noise(RATE, seed)
        assert column(wave, "voicing").mean() < 0.25
        assert not column(wave, "voiced").any()
        middle = 12 * np.log2(np.sqrt(65 * 600) / 27.5)
        np.testing.assert_allclose(column(wave, "f0_semitones"), middle, rtol=1e-5)


def test_a_hum_far_below_the_loudest_sample_is_not_a_voice() -> None:
    hum = 0.002 * voice(120)
    assert column(tensor(hum), "voiced")[3:-3].all()
    hum[8000:] += voice(200)[8000:]
    voiced = column(tensor(hum), "voiced")
    assert not voiced[3:46].any()
    assert voiced[52:-3].all()


@pytest.mark.parametrize("seed", range(20))
def test_the_path_is_the_best_of_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    strength, octaves = rng.uniform(0, 1, (5, 3)), rng.uniform(6, 9, (5, 2))

    def worth(path: tuple[int, ...]) -> float:
        total = sum(strength[t, state] for t, state in enumerate(path))
        for t, (before, after) in enumerate(pairwise(path)):
            if before and after:
                total -= 0.35 * abs(octaves[t, before - 1] - octaves[t + 1, after - 1])
            elif before or after:
                total -= 0.14
        return total

    best = max(product(range(3), repeat=5), key=worth)
    assert tuple(acoustic._best_path(strength, octaves).tolist()) == best


def test_a_line_through_the_unvoiced() -> None:
    f0 = tensor(np.array([0, 110, 0, 0, 0, 220, 0]))
    np.testing.assert_allclose(acoustic.semitones(f0), [24, 24, 27, 30, 33, 36, 36], atol=1e-4)
    wave = voice(200)
    wave[6000:10_000] = noise(4000).numpy() * 0.3
    voiced = column(tensor(wave), "voiced")
    assert voiced[3:34].all()
    assert not voiced[42:58].any()
    assert voiced[66:-3].all()
    line = column(tensor(wave), "f0_semitones")[42:58]
    np.testing.assert_allclose(line, 12 * np.log2(200 / 27.5), atol=0.3)


@pytest.mark.parametrize("amplitude", [1.0, 0.1, 0.001])
def test_energy_of_a_sine(amplitude: float) -> None:
    wave = tensor(amplitude * np.sin(2 * np.pi * 440 * TIME) + 0.2)
    expected = 20 * np.log10(amplitude / np.sqrt(2))
    np.testing.assert_allclose(column(wave, "energy_db")[2:-2], expected, atol=0.15)


def test_energy_delta_of_a_swell() -> None:
    wave = tensor(0.001 * 10 ** (2 * TIME) * np.sin(2 * np.pi * 1000 * TIME))  # 40 dB a second
    np.testing.assert_allclose(column(wave, "energy_delta")[4:-4], 0.4, atol=0.02)


def test_zero_crossings_of_a_sine() -> None:
    wave = tensor(np.sin(2 * np.pi * 1000 * TIME + 0.1))
    np.testing.assert_allclose(column(wave, "zero_crossings")[2:-2], 2 * 1000 / RATE, atol=0.004)


def test_balance_of_two_sines() -> None:
    tones = np.sin(2 * np.pi * 500 * TIME) + 0.01 * np.sin(2 * np.pi * 3000 * TIME)
    np.testing.assert_allclose(column(tensor(tones), "alpha_ratio_db")[3:-3], 40, atol=0.5)
    np.testing.assert_allclose(column(tensor(tones), "hammarberg_db")[3:-3], 40, atol=0.5)


def test_slopes_and_flux() -> None:
    click = np.zeros(RATE)
    click[8000] = 1.0  # a flat spectrum in the frame centred on it
    for name in ("slope_0_500", "slope_500_1500"):
        np.testing.assert_allclose(column(tensor(click), name)[50], 0, atol=0.2)
    # With no window in the way, a first difference tilts the spectrum by 2 sin(pi f / rate).
    click[8001] = -1.0
    hertz = np.arange(16, 48) * RATE / 512
    tilt = np.polyfit(hertz / 1000, 20 * np.log10(2 * np.sin(np.pi * hertz / RATE)), 1)[0]
    np.testing.assert_allclose(column(tensor(click), "slope_500_1500")[50], tilt, atol=0.2)
    steady = column(tensor(voice(200)), "flux")  # 200 Hz: two periods a hop, every frame alike
    np.testing.assert_allclose(steady[4:-4], 0, atol=0.01)
    assert steady[0] == 0
    rough = noise(4000, seed=6)
    mel = by_hand_mel(rough.double().numpy())
    change = np.sqrt((np.diff(mel, axis=0) ** 2).mean(1))
    np.testing.assert_allclose(column(rough, "flux")[1:], change, atol=2e-3)

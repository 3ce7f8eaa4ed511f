"""Acoustic descriptors as upstreams of one layer: no weights, no download.

All share one grid of T = 1 + num_samples // 160 frames. Frame t is centred on sample t * 160 (10 ms)
and the waveform is mirrored at both ends, so that the frames cover the whole utterance.
The mean of the waveform is subtracted first: a constant offset comes from the recorder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil, log

import numpy as np
import torch
from torch import Tensor
from torchaudio.functional import compute_deltas, create_dct, melscale_fbanks

from mser.errors import UpstreamError
from mser.upstream.base import Prepared, Upstream, UpstreamInfo

ACOUSTIC_NAMES = ("acoustic", "logmel", "mfcc", "prosody", "logmel-256", "logmel-512")
#: Log-mel spectrograms of another resolution: samples of window and FFT -> mel bands. With fewer than 512 samples the
#: lowest of 80 bands would hold no bin.
RESOLUTIONS = {256: 40, 512: 80}
REVISION = "1"  # raise it when the code computes other values from the same recipe

PROSODY_FEATURES = (
    "f0_semitones",  # above 27.5 Hz; a line through unvoiced frames, held at both ends
    "f0_delta",  # semitones a frame
    "voicing",  # highest peak of the normalised autocorrelation, 0 to 1
    "voiced",  # 1 where the tracker chose a pitch, else 0
    "hnr_db",  # harmonics to noise: voicing / (1 - voicing)
    "energy_db",  # mean square of the window; 0 dB is a constant 1, a sine of amplitude 1 has -3
    "energy_delta",  # dB a frame
    "zero_crossings",  # share of neighbouring samples that differ in sign, 0 to 1
    "alpha_ratio_db",  # power from 50 to 1000 Hz over power from 1 to 5 kHz
    "hammarberg_db",  # strongest peak below 2 kHz over strongest peak from 2 to 5 kHz
    "slope_0_500",  # least-squares slope of the spectrum from 0 to 500 Hz, dB a kHz
    "slope_500_1500",
    "flux",  # root mean square change of the log-mel bands since the frame before
)


@dataclass(frozen=True)
class Recipe:
    """Every constant behind the values; its hash stands where others have a hash over weights."""

    sample_rate: int = 16_000  # Hz
    hop: int = 160  # samples from frame to frame
    window: int = 400  # samples, Hann window of spectra, box of the energy; the shortest waveform
    n_fft: int = 512  # samples
    mel_bands: int = 80  # triangles of height 1, evenly spaced on the HTK mel scale
    mel_low: float = 20.0  # Hz, outer edge of the lowest triangle
    mel_high: float = 8_000.0  # Hz, outer edge of the highest
    cepstra: int = 13  # the zeroth among them
    delta_window: int = 5  # frames of the regression behind every delta
    floor: float = 1e-10  # power, -100 dB: near the rounding noise of 16-bit audio (-101 dB)
    pitch_window: int = 768  # samples, Hann window: three periods of pitch_low; below 2 * window
    pitch_fft: int = 1_024  # samples, at least pitch_window + the longest lag
    pitch_oversampling: int = 2  # lags a sample; with 1 a period of 53.3 samples may lose to one of 160
    pitch_low: float = 65.0  # Hz
    pitch_high: float = 600.0  # Hz
    pitch_candidates: int = 15  # peaks kept in a frame
    voicing_threshold: float = 0.45  # this and the next four: see the derivation below
    silence_threshold: float = 0.03
    octave_cost: float = 0.01
    jump_cost: float = 0.35
    voicing_cost: float = 0.14
    semitone_zero: float = 27.5  # Hz, the note A0, as in GeMAPS
    hnr_margin: float = 0.001  # voicing is held this far from 0 and 1: harmonics to noise within 30 dB


RECIPE = Recipe()


def frames_of(waveform: Tensor, size: int) -> Tensor:
    """Frames (T, size) of a waveform (num_samples,), centred on every hop, mirrored at the ends."""
    padded = torch.nn.functional.pad(waveform[None], (size // 2, size // 2), mode="reflect")[0]
    return padded.unfold(0, size, RECIPE.hop)


def power_spectrum(waveform: Tensor, window: int = RECIPE.window, n_fft: int = RECIPE.n_fft) -> Tensor:
    """Power (T, n_fft // 2 + 1) of a waveform (num_samples,); a sine of amplitude 1 peaks at 1/4.

    The Hann window is divided by its sum, so that a peak does not depend on the window's length.
    """
    hann = torch.hann_window(window)
    return torch.fft.rfft(frames_of(waveform, window) * (hann / hann.sum()), n_fft).abs() ** 2


def log_mel(power: Tensor, bands: int = RECIPE.mel_bands) -> Tensor:
    """Natural log (T, bands) of a ``power_spectrum`` summed by band, not below the floor (1e-10)."""
    edges = RECIPE.mel_low, RECIPE.mel_high
    triangles = melscale_fbanks(power.shape[1], *edges, bands, RECIPE.sample_rate)
    return (power @ triangles).clamp(min=RECIPE.floor).log()


def deltas(features: Tensor) -> Tensor:
    """Slope a frame (T, D) of features (T, D) over ``delta_window`` frames, the ends repeated."""
    return compute_deltas(features.T[None], RECIPE.delta_window)[0].T


def mfcc(mel: Tensor) -> Tensor:
    """Cepstra (orthonormal DCT-II) of a ``log_mel``, deltas, deltas of deltas: (T, 3 * cepstra)."""
    cepstra = mel @ create_dct(RECIPE.cepstra, RECIPE.mel_bands, "ortho")
    slopes = deltas(cepstra)
    return torch.cat([cepstra, slopes, deltas(slopes)], dim=1)


# Pitch, after Boersma (1993), "Accurate short-term analysis of the fundamental frequency and the
# harmonics-to-noise ratio of a sampled sound", IFA Proceedings 17.
#
# The window pulls down the autocorrelation of what it cuts out; the autocorrelation of the window itself
# says by how much, at every lag. The quotient r(lag) of the two, each divided by its value at lag 0, is
# near 1 at every multiple of the period of a voice, and r / (1 - r) is its ratio of harmonics to noise.
# Among the peaks of all frames, the Viterbi algorithm finds the path with the highest sum of strengths
# less costs. Strength of a peak: r + octave_cost * log2(frequency / pitch_low), so that the shortest
# multiple wins. Strength of "unvoiced": voicing_threshold, and more where the highest sample is small
# beside that of the utterance. Cost of a step: jump_cost an octave, voicing_cost between voiced and not.


def autocorrelation(frames: Tensor) -> Tensor:
    """Autocorrelation r (T, lags) of frames (T, pitch_window); ``pitch_oversampling`` lags a sample, from 0.

    The floor is added to the energy at lag 0, so that r fades to 0 as a frame sinks below the floor.
    """
    lags = int(RECIPE.pitch_oversampling * RECIPE.sample_rate / RECIPE.pitch_low) + 2
    hann = torch.hann_window(RECIPE.pitch_window)
    windowed = torch.cat([(frames - frames.mean(1, keepdim=True)) * hann, hann[None]])
    power = torch.fft.rfft(windowed, RECIPE.pitch_fft).abs() ** 2 * RECIPE.pitch_oversampling
    r = torch.fft.irfft(power, RECIPE.pitch_fft * RECIPE.pitch_oversampling)[:, :lags]
    energy = r[:-1, :1] + RECIPE.floor * hann.square().sum()
    return r[:-1] / energy / (r[-1] / r[-1, 0])


def pitch_candidates(r: Tensor) -> tuple[Tensor, Tensor]:
    """Frequency (Hz) and height of the strongest peaks of r (T, lags), each (T, pitch_candidates).

    A parabola through a peak and its neighbours places it between lags. Height -inf: no peak left.
    """
    rate = RECIPE.sample_rate * RECIPE.pitch_oversampling  # lags a second
    left, mid, right = r[:, :-2], r[:, 1:-1], r[:, 2:]
    lag = torch.arange(1, r.shape[1] - 1)
    peak = (mid > left) & (mid >= right) & (lag >= rate / RECIPE.pitch_high)
    strength = (mid - RECIPE.octave_cost * lag.log2()).masked_fill(~peak, -torch.inf)
    index = strength.topk(RECIPE.pitch_candidates).indices
    peak, left, mid, right = (values.gather(1, index) for values in (peak, left, mid, right))
    shift = (0.5 * (left - right) / (left - 2 * mid + right).clamp(max=-1e-9)).clamp(-0.5, 0.5)
    height = (mid - 0.25 * (left - right) * shift).clamp(max=1.0)
    return rate / (lag[index] + shift), height.masked_fill(~peak, -torch.inf)


def track_pitch(waveform: Tensor) -> tuple[Tensor, Tensor]:
    """Pitch (T,) in Hz, 0 where unvoiced, and voicing (T,), 0 to 1, of a waveform (num_samples,)."""
    frames = frames_of(waveform, RECIPE.pitch_window)
    frequency, height = pitch_candidates(autocorrelation(frames))
    loudness = frames.abs().amax(1) / waveform.abs().max().clamp(min=RECIPE.floor**0.5)
    quiet = 2 - loudness * (1 + RECIPE.voicing_threshold) / RECIPE.silence_threshold
    unvoiced = RECIPE.voicing_threshold + quiet.clamp(min=0)
    strength = height + RECIPE.octave_cost * (frequency / RECIPE.pitch_low).log2()
    path = _best_path(torch.cat([unvoiced[:, None], strength], dim=1).numpy(), frequency.log2().numpy())
    f0 = torch.nn.functional.pad(frequency, (1, 0)).gather(1, path[:, None])[:, 0]
    return f0, height.amax(1).clamp(0, 1)


def _best_path(strength: np.ndarray, octaves: np.ndarray) -> Tensor:
    """States (T,) of the best path through strengths (T, 1 + k), octaves (T, k) apart; 0 is unvoiced."""
    steps, states = strength.shape
    cost = np.full((steps, states, states), RECIPE.voicing_cost)  # [t, from, to]: from frame t - 1 to t
    cost[:, 0, 0] = 0.0
    cost[1:, 1:, 1:] = RECIPE.jump_cost * np.abs(octaves[:-1, :, None] - octaves[1:, None, :])
    best, origin = strength[0].astype(np.float64), np.zeros((steps, states), dtype=np.int64)
    for t in range(1, steps):
        total = best[:, None] - cost[t]
        origin[t] = total.argmax(0)
        best = total.max(0) + strength[t]
    path = np.full(steps, best.argmax())
    for t in range(steps - 1, 0, -1):
        path[t - 1] = origin[t, path[t]]
    return torch.from_numpy(path)


def semitones(f0: Tensor) -> Tensor:
    """Semitones (T,) of a pitch (T,) in Hz, 0 Hz filled in on a line; middle of the range if all are 0."""
    voiced = np.flatnonzero(f0.numpy())
    if not len(voiced):
        f0, voiced = torch.full_like(f0, (RECIPE.pitch_low * RECIPE.pitch_high) ** 0.5), np.arange(len(f0))
    notes = 12 * np.log2(f0.numpy()[voiced] / RECIPE.semitone_zero)
    return torch.from_numpy(np.interp(np.arange(len(f0)), voiced, notes)).float()


def _decibel(power: Tensor) -> Tensor:
    """dB of a power, not below the floor."""
    return 10 * power.clamp(min=RECIPE.floor).log10()


def _band(power: Tensor, low: float, high: float) -> Tensor:
    """Bins of a ``power_spectrum`` from ``low`` to below ``high`` Hz."""
    step = RECIPE.sample_rate / RECIPE.n_fft
    return power[:, ceil(low / step) : ceil(high / step)]


def _slope(power: Tensor, low: float, high: float) -> Tensor:
    """Least-squares slope (T,), dB a kHz, of a ``power_spectrum`` from ``low`` to below ``high`` Hz."""
    band = _decibel(_band(power, low, high))
    khz = (torch.arange(band.shape[1]) - (band.shape[1] - 1) / 2) * (RECIPE.sample_rate / RECIPE.n_fft / 1000)
    return band @ (khz / khz.square().sum())


def prosody(waveform: Tensor, power: Tensor, mel: Tensor) -> Tensor:
    """``PROSODY_FEATURES`` (T, 13) of a waveform (num_samples,), its ``power_spectrum`` and ``log_mel``.

    The choice follows the low-level descriptors of GeMAPS (Eyben et al. 2016, IEEE Transactions on
    Affective Computing 7(2)), without those that need formants or marks of single periods.
    """
    f0, voicing = track_pitch(waveform)
    frames = frames_of(waveform, RECIPE.window)
    moving = torch.stack([semitones(f0), _decibel(frames.square().mean(1))], dim=1)
    (pitch, energy), (pitch_slope, energy_slope) = moving.T, deltas(moving).T
    columns = [
        pitch,
        pitch_slope,
        voicing,
        (f0 > 0).float(),
        voicing.logit(RECIPE.hnr_margin) * 10 / log(10),
        energy,
        energy_slope,
        (frames[:, 1:].signbit() != frames[:, :-1].signbit()).float().mean(1),
        _decibel(_band(power, 50, 1000).sum(1)) - _decibel(_band(power, 1000, 5000).sum(1)),
        _decibel(_band(power, 0, 2000).amax(1)) - _decibel(_band(power, 2000, 5000).amax(1)),
        _slope(power, 0, 500),
        _slope(power, 500, 1500),
        torch.diff(mel, dim=0, prepend=mel[:1]).square().mean(1).sqrt(),
    ]
    return torch.stack(columns, dim=1)


def feature_names(name: str) -> list[str]:
    """Names (D) of the columns of an acoustic upstream; UpstreamError for an unknown name."""
    if name not in ACOUSTIC_NAMES:
        known = ", ".join(ACOUSTIC_NAMES)
        raise UpstreamError("There is no such acoustic upstream.", field="name", expected=known, found=name)
    logmel = [f"logmel_{band}" for band in range(RECIPE.mel_bands)]
    cepstra = [f"mfcc{kind}_{i}" for kind in ("", "_delta", "_delta2") for i in range(RECIPE.cepstra)]
    names = {"logmel": logmel, "mfcc": cepstra, "prosody": list(PROSODY_FEATURES)}
    for size, bands in RESOLUTIONS.items():
        names[f"logmel-{size}"] = [f"logmel{size}_{band}" for band in range(bands)]
    return names[name] if name in names else logmel + cepstra + names["prosody"]


class AcousticUpstream(Upstream):
    """One of ``ACOUSTIC_NAMES``.

    ``acoustic`` is ``logmel``, ``mfcc`` and ``prosody`` side by side. ``logmel-256`` and ``logmel-512`` see 16
    and 32 ms at a time, on the grid of the others: the finer resolution in time, and that in frequency.
    """

    frame_samples = RECIPE.hop

    def __init__(self, name: str) -> None:
        self.feature_names = feature_names(name)
        recipe = json.dumps([asdict(RECIPE), self.feature_names], sort_keys=True)
        self.info = UpstreamInfo(
            name=name,
            family="acoustic",
            source=name,
            revision=REVISION,
            weights_sha256=hashlib.sha256(recipe.encode()).hexdigest(),
            layers=1,
            dim=len(self.feature_names),
            frame_rate=RECIPE.sample_rate / RECIPE.hop,
            sample_rate=RECIPE.sample_rate,
        )

    def num_frames(self, num_samples: int) -> int:
        """Frames T: 1 + num_samples // 160; 0 below 400 samples (25 ms)."""
        return 1 + num_samples // RECIPE.hop if num_samples >= RECIPE.window else 0

    @torch.no_grad()
    def prepare(self, waveform: Tensor) -> Prepared:
        """The features (T, D) themselves: there is no model behind them.

        Raises:
            UpstreamError: the waveform is too short, or not mono and finite.
        """
        if waveform.ndim != 1 or not waveform.isfinite().all():
            found = f"{tuple(waveform.shape)}, {int((~waveform.isfinite()).sum())} of them not finite"
            what = "A waveform must be mono and finite."
            raise UpstreamError(what, field="waveform", expected="(num_samples,)", found=found)
        self.require_fit(len(waveform))
        waveform = waveform.float() - waveform.float().mean()
        _, _, size = self.info.name.partition("-")
        if size:
            power = power_spectrum(waveform, int(size), int(size))
            return Prepared(len(waveform), log_mel(power, RESOLUTIONS[int(size)]))
        power = power_spectrum(waveform)
        mel = log_mel(power)
        if self.info.name == "logmel":
            features = mel
        elif self.info.name == "mfcc":
            features = mfcc(mel)
        else:
            features = prosody(waveform, power, mel)
            if self.info.name == "acoustic":
                features = torch.cat([mel, mfcc(mel), features], dim=1)
        return Prepared(len(waveform), features)

    def run(self, batch: Sequence[Prepared]) -> list[Tensor]:
        return [one.features[None] for one in batch]


def load_acoustic(name: str) -> AcousticUpstream:
    """The upstream ``name``, one of ``ACOUSTIC_NAMES``; UpstreamError for any other name."""
    return AcousticUpstream(name)

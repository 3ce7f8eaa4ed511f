"""Decoding and resampling of recordings: the only module that reads audio.

A recording is decoded as its header says or refused with a reason. It is decoded in blocks, so that many channels
need no more memory than one.
"""

from __future__ import annotations

import errno
import hashlib
import io
import math
import os
import stat
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
import torchaudio.functional
from torch import Tensor

from mser.containers import FOREIGN_SUFFIXES, ends_within_ogg_page, mpeg_frames, sound_of
from mser.containers import SUFFIXES as SUFFIXES
from mser.errors import AudioError
from mser.resampling import resample_without_table
from mser.resampling import resampled_length as resampled_length

#: Shorter recordings hold no utterance: in seconds.
MIN_SECONDS = 0.1
#: Lower sample rates hold no speech, and would grow without bounds when resampled: in Hz.
MIN_RATE = 4_000
#: Samples of all channels that are decoded at a time: 1 MiB as float32.
BLOCK_SAMPLES = 2**18
#: libsndfile's count of frames where a header leaves the length open.
UNKNOWN_FRAMES = 2**62
#: Bytes that a file may lack: some programs count a part of the header as sound.
HEADER_SLACK = 128
#: MPEG frames that decoders may leave out at the ends; headers may count themselves as one as well.
MPEG_ENDS = 4
#: Weights that a table of torchaudio's resampler may have: 64 MiB. Rates such as 44101 Hz would need gigabytes.
KERNEL_WEIGHTS = 2**24

# libsndfile keeps the reason why a file could not be opened in one place for all threads.
_OPENING = threading.Lock()


@dataclass(frozen=True)
class PcmInfo:
    """What a recording holds.

    Attributes:
        num_samples: a channel; sample_rate in Hz.
        sha256: as :func:`pcm_sha256` of all samples.
    """

    num_samples: int
    sample_rate: int
    channels: int
    sha256: str


class _Stream(soundfile.SoundFile):
    """A recording that is read from its start to its end.

    soundfile seeks after each block, to where it is already: that changes what MP3 decodes to, hides damage in Opus,
    and fails on FLAC of unknown length. It does not where a file cannot seek.
    """

    def seekable(self) -> bool:
        return False


class _UnclosedWav(io.FileIO):
    """A file whose 4 bytes at ``size_at`` are read as 0xFFFFFFFF: an unclosed wav file's size of 0 bytes of sound.

    libsndfile takes such a file to its end, but one of size 0 for empty.
    """

    #: Before the file: nothing is changed.
    size_at = -4

    def readinto(self, buffer: Any, /) -> int:
        start = self.tell()
        count = super().readinto(buffer) or 0
        view = memoryview(buffer).cast("B")
        for place in range(max(start, self.size_at), min(start + count, self.size_at + 4)):
            view[place - start] = 0xFF
        return count


def read_pcm(path: Path) -> tuple[np.ndarray, int]:
    """Decodes a recording.

    Returns:
        Samples (frames, channels) float32, full scale 1, and the sample rate in Hz.

    Raises:
        AudioError: it cannot be read or decoded as a whole, is empty, silent, too short, or has samples or a sample
            rate that cannot be used.
    """
    with _opened(path) as stream:
        return np.concatenate([block.copy() for block, _ in _blocks(stream, path)]), stream.samplerate


def scan_pcm(path: Path, longest: float = math.inf) -> PcmInfo:
    """Decodes a recording and keeps only its hash, in memory that does not grow with its length.

    Args:
        longest: seconds after which decoding ends.

    Raises:
        AudioError: as :func:`read_pcm`; or it is longer.
    """
    with _opened(path) as stream:
        digest, frames = _new_hash(stream.samplerate, stream.channels), 0
        for block, _ in _blocks(stream, path):
            digest.update(block.data.cast("B"))
            frames += len(block)
            if frames > longest * stream.samplerate:
                raise AudioError(f"is too long: more than {longest:g} s", file=path)
        return PcmInfo(frames, stream.samplerate, stream.channels, digest.hexdigest())


def read_waveform(path: Path, target_rate: int, start: float = 0.0, end: float = math.inf) -> tuple[Tensor, str]:
    """Decodes a recording to one channel at a rate: the mean of its channels is kept, never the channels.

    Args:
        target_rate: Hz.
        start, end: seconds; no more than this part is kept and resampled, though all is decoded, and hashed.

    Returns:
        ``to_waveform(*read_pcm(path), target_rate)``, bit for bit, and ``pcm_sha256(*read_pcm(path))``.

    Raises:
        AudioError: as :func:`read_pcm`.
    """
    with _opened(path) as stream:
        rate, mono, done = stream.samplerate, bytearray(), 0
        digest = _new_hash(rate, stream.channels)
        first, last = round(start * rate), round(min(end * rate, UNKNOWN_FRAMES))
        for block, mean in _blocks(stream, path):
            digest.update(block.data.cast("B"))
            mono += mean[max(0, first - done) : max(0, last - done)].tobytes()
            done += len(mean)
    return _resample(torch.frombuffer(mono, dtype=torch.float32), rate, target_rate), digest.hexdigest()


def pcm_sha256(samples: np.ndarray, sample_rate: int) -> str:
    """Hash of the decoded recording, the same for lossless copies in other containers.

    Args:
        samples: (frames, channels) float32.
    """
    digest = _new_hash(sample_rate, samples.shape[1])
    digest.update(np.ascontiguousarray(samples).tobytes())
    return digest.hexdigest()


def _new_hash(sample_rate: int, channels: int) -> Any:
    return hashlib.sha256(f"{sample_rate} {channels} ".encode())


@contextmanager
def _opened(path: Path) -> Iterator[_Stream]:
    """The recording, ready to be read, after its header was found to fit its file."""
    with ExitStack() as stack:
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                # Opening a pipe would wait for its other end.
                raise OSError(errno.EINVAL, "it is no regular file")
            file = stack.enter_context(_UnclosedWav(path))
            sound = sound_of(file)
        except (OSError, ValueError) as error:
            raise AudioError(f"cannot be decoded: {getattr(error, 'strerror', error)}", file=path) from error
        if sound and sound.promised is not None and sound.promised > sound.there + HEADER_SLACK:
            raise AudioError(
                f"is truncated: {max(0, sound.there)} of the {sound.promised} bytes of sound are there that its "
                "header promises",
                file=path,
            )
        source: Any = path
        if sound and sound.size_at is not None:
            file.size_at = sound.size_at
            file.seek(0)
            source = file
        yield stack.enter_context(_open_stream(source, path))


def _open_stream(source: Any, path: Path) -> _Stream:
    try:
        with _OPENING:
            stream = _Stream(source)
            if stream.format == "MP3":
                # Only a decoder that was sent back to its start is in the same state each time.
                soundfile.SoundFile.seek(stream, 0)
            return stream
    except soundfile.LibsndfileError as error:
        # Code 7 is said of MPEG files in which no frame is found: "File does not exist".
        reason = "no recording is found in it" if error.code == 7 else error.error_string
        raise _undecodable(path, reason) from error
    except (OSError, ValueError, TypeError) as error:
        raise _undecodable(path, error) from error


def _undecodable(path: Path, reason: object) -> AudioError:
    suffix = path.suffix.lower()
    return AudioError(
        f"cannot be decoded: {reason}",
        file=path,
        expected="a format that libsndfile reads, such as wav, flac, ogg, opus or mp3",
        found=f"{suffix}, which it does not read" if suffix in FOREIGN_SUFFIXES else None,
        hint="convert it to flac, for example: ffmpeg -i INPUT OUTPUT.flac",
    )


def _blocks(stream: _Stream, path: Path) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Blocks (frames, channels) float32, valid until the next one, and their means over channels (frames,).

    Raises:
        AudioError: at the first block that cannot be used, or after the last one.
    """
    frames = max(1, min(BLOCK_SAMPLES // stream.channels, stream.frames))
    buffer = np.empty((frames, stream.channels), dtype=np.float32)
    done, sounds, sounds_as_mono = 0, False, False
    if stream.samplerate < MIN_RATE:
        raise AudioError(f"has a sample rate of {stream.samplerate} Hz: at least {MIN_RATE} Hz are needed", file=path)
    while True:
        try:
            block = stream.read(len(buffer), out=buffer)
        except soundfile.LibsndfileError as error:
            raise AudioError(f"cannot be decoded after {done} samples: {error.error_string}", file=path) from error
        if not len(block):
            break
        mean = _mix(block)
        # What is not finite in a channel is not finite in the mean, which may overflow as well.
        if not np.isfinite(mean).all():
            raise AudioError("holds samples that are NaN or infinite", file=path)
        done += len(block)
        sounds_as_mono = sounds_as_mono or bool(mean.any())
        sounds = sounds or sounds_as_mono or bool(block.any())
        yield block, mean
    _require_whole(stream, done, path)
    if not sounds_as_mono:
        what = "is silent: its channels cancel each other" if sounds else "is silent: every sample is zero"
        raise AudioError(what, file=path)
    if done < MIN_SECONDS * stream.samplerate:
        seconds = done / stream.samplerate
        raise AudioError(f"is too short: {seconds:.3g} s, and at least {MIN_SECONDS} s are needed", file=path)


def _require_whole(stream: _Stream, done: int, path: Path) -> None:
    """Raises AudioError where fewer samples were decoded than the file says that it has, or than it has."""
    promised = stream.frames if stream.frames < UNKNOWN_FRAMES else 0
    slack = 0
    if stream.format == "MP3":
        with path.open("rb") as file:
            frames = mpeg_frames(file)
        if frames and done + MPEG_ENDS * frames.frame_samples < frames.samples:
            raise AudioError(
                f"can be decoded only in part: {done} of about {frames.samples} samples, as its header does not tell "
                "its length; convert it to flac",
                file=path,
            )
        promised, slack = (promised, frames.frame_samples) if frames and frames.tagged else (0, 0)
    elif stream.format == "OGG":
        with path.open("rb") as file:
            if ends_within_ogg_page(file):
                raise AudioError("is truncated: it ends in the middle of a page", file=path)
    if not done:
        raise AudioError("holds no samples", file=path)
    if done + slack < promised:
        raise AudioError(f"is truncated or damaged: {done} of {promised} samples can be decoded", file=path)


def to_waveform(samples: np.ndarray, sample_rate: int, target_rate: int) -> Tensor:
    """Mixes the channels (mean) and resamples (windowed sinc, ``torchaudio``).

    Args:
        samples: (frames, channels) float32.
        sample_rate, target_rate: Hz.

    Returns:
        (resampled_length(frames, sample_rate, target_rate),) float32.
    """
    return _resample(torch.from_numpy(_mix(samples)), sample_rate, target_rate)


def _mix(samples: np.ndarray) -> np.ndarray:
    """Mean (frames,) float32 over the channels of (frames, channels)."""
    if samples.shape[1] == 1:
        # As the mean of one channel, but quicker: a new array, in which -0 is 0.
        return samples[:, 0] + np.float32(0)
    with np.errstate(over="ignore", invalid="ignore"):
        return samples.mean(axis=1)


def _resample(mono: Tensor, sample_rate: int, target_rate: int) -> Tensor:
    common = math.gcd(sample_rate, target_rate)
    if sample_rate // common * (target_rate // common) <= KERNEL_WEIGHTS:
        return torchaudio.functional.resample(mono, sample_rate, target_rate)
    return resample_without_table(mono, sample_rate, target_rate)

"""Recordings of every kind of badness: used as they are meant, or rejected by name with the reason."""

from __future__ import annotations

import hashlib
import os
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torchaudio.functional
from conftest import tone
from odd_corpus import CONTAINERS, CORPUS, RATE, healthy, noise, put, reasons, refusal

import mser.audio
from extract.manifest import scan
from mser.audio import MIN_SECONDS, PcmInfo, pcm_sha256, read_pcm, read_waveform, scan_pcm, to_waveform
from mser.containers import FOREIGN_SUFFIXES, SUFFIXES
from mser.resampling import resample_without_table, resampled_length


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return healthy(tmp_path)


# What is no recording, or holds nothing to use.


def text(path: Path) -> None:
    path.write_text("<html>404: not found</html>\n" * 300)


def chunk_after_nothing(path: Path) -> None:
    put(path, np.zeros((0, 1)))
    content = path.read_bytes() + b"LIST" + struct.pack("<I", 400) + bytes(400)
    path.write_bytes(content[:4] + struct.pack("<I", len(content) - 8) + content[8:])


def metadata_alone(path: Path) -> None:
    content = put(path).read_bytes()
    path.write_bytes(content[: content.index(b"\xff\xf8")])


def low_rate(path: Path) -> None:
    put(path, noise(2_000), 1_000)


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty.wav": (Path.touch, "cannot be decoded"),
    "empty.mp3": (Path.touch, "cannot be decoded"),
    "header.wav": (lambda path: put(path, np.zeros((0, 1))), "holds no samples"),
    "header.flac": (metadata_alone, "holds no samples"),
    "chunk.wav": (chunk_after_nothing, "holds no samples"),
    "text.wav": (text, "cannot be decoded: Format not recognised"),
    "text.mp3": (text, "cannot be decoded: no recording is found in it"),
    "zeros.wav": (lambda path: path.write_bytes(bytes(9_999)), "cannot be decoded"),
    "random.mp3": (lambda path: path.write_bytes(np.random.default_rng(0).bytes(99_999)), "cannot be decoded"),
    "nan.wav": (
        lambda path: put(path, np.where(np.arange(RATE) == 9_999, np.nan, 0.1), subtype="FLOAT"), "NaN or infinite"
    ),
    "inf.wav": (
        lambda path: put(path, np.where(np.arange(RATE) == 9_999, -np.inf, 0.1), subtype="DOUBLE"), "NaN or infinite"
    ),
    "nan_in_one.wav": (
        lambda path: put(path, np.array([[np.inf, -np.inf]] * RATE), subtype="FLOAT"), "NaN or infinite"
    ),
    "silence.wav": (lambda path: put(path, np.zeros(RATE)), "is silent: every sample is zero"),
    "against.wav": (
        lambda path: put(path, noise(RATE) @ np.array([[1.0, -1.0]]), subtype="FLOAT"),
        "is silent: its channels cancel each other",
    ),
    "short.wav": (lambda path: put(path, noise(80)), "is too short: 0.005 s, and at least 0.1 s are needed"),
    "short.flac": (lambda path: put(path, noise(1_599)), "is too short"),
    "low.wav": (low_rate, "a sample rate of 1000 Hz"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_rejected_by_name_with_the_reason(folder: Path, name: str) -> None:
    path = folder / "s1" / "neu" / name
    path.parent.mkdir()
    BAD[name][0](path)
    assert BAD[name][1] in refusal(path)
    found = scan(CORPUS, folder.parent)
    assert reasons(found) == {f"s1/neu/{name}": refusal(path)}
    assert str(folder) not in refusal(path)
    assert [row.path for row in found.manifest.utterances] == ["s1/ang/good.wav"]


def test_a_tenth_of_a_second_is_enough(folder: Path) -> None:
    assert MIN_SECONDS == 0.1
    for rate in (8_000, 11_025, 44_100, 96_000):
        frames = -(-rate // 10)
        assert scan_pcm(put(folder / "x.wav", noise(frames), rate)).num_samples == frames
        assert "too short" in refusal(put(folder / "x.wav", noise(frames - 1), rate))


def test_what_is_no_file_is_rejected_by_name(folder: Path) -> None:
    (folder / "s1" / "ang" / "folder.wav").mkdir()
    put(folder / "s1" / "ang" / "folder.wav" / "inner.wav")
    os.mkfifo(folder / "s1" / "ang" / "pipe.wav")
    found = scan(CORPUS, folder.parent)
    assert reasons(found) == {
        "s1/ang/folder.wav": "is a folder, not a recording", "s1/ang/pipe.wav": "is no regular file",
    }  # fmt: skip
    assert "s1/ang/folder.wav/inner.wav" in {row.path for row in found.manifest.utterances}
    assert "no regular file" in refusal(folder / "s1" / "ang" / "pipe.wav")


@pytest.mark.parametrize("suffix", [".m4a", ".aac", ".wma", ".amr", ".WEBM", ".mp4"])
def test_a_format_that_cannot_be_decoded_is_named(folder: Path, suffix: str) -> None:
    assert suffix.lower() in FOREIGN_SUFFIXES - SUFFIXES
    (folder / "s1" / "ang" / f"x{suffix}").write_bytes(b"\0\0\0\x20ftypM4A ")
    (folder / "s1" / "ang" / "notes.txt").touch()
    assert reasons(scan(CORPUS, folder.parent)) == {
        f"s1/ang/x{suffix}": f"is {suffix.lower()}, which cannot be decoded; convert it to flac"
    }


# What ends before it should.


@pytest.mark.parametrize(("suffix", "kind", "subtype", "endian"), CONTAINERS)
def test_a_truncated_recording_is_rejected_and_a_whole_one_is_not(
    tmp_path: Path, suffix: str, kind: str, subtype: str, endian: str
) -> None:
    whole = put(tmp_path / f"x.{suffix}", noise(2 * RATE), format=kind, subtype=subtype, endian=endian)
    assert scan_pcm(whole).num_samples == pytest.approx(2 * RATE, abs=1_024 if subtype == "IMA_ADPCM" else 0)
    content = whole.read_bytes()
    for share in (0.95, 0.5, 0.1):
        cut = tmp_path / f"cut.{suffix}"
        cut.write_bytes(content[: int(share * len(content))])
        said = refusal(cut)
        assert "truncated" in said or "cannot be decoded" in said


def test_a_header_that_counts_itself_as_sound_is_forgiven(tmp_path: Path) -> None:
    content = bytearray(put(tmp_path / "x.wav", noise(RATE)).read_bytes())
    content[40:44] = struct.pack("<I", len(content))
    (tmp_path / "y.wav").write_bytes(content)
    assert scan_pcm(tmp_path / "y.wav") == scan_pcm(tmp_path / "x.wav")


@pytest.mark.parametrize("size", [0, 0xFFFFFFFF, 0xFFFFFFFF - 36, 0x7FFFFFFF, 0x7FFFF000, 0x80000000])
@pytest.mark.parametrize("whole", [0, 36, 0xFFFFFFFF])
@pytest.mark.parametrize("channels", [1, 2])
def test_a_wav_file_of_unknown_length_is_used_to_its_end(tmp_path: Path, size: int, whole: int, channels: int) -> None:
    content = bytearray(put(tmp_path / "x.wav", noise(RATE, channels)).read_bytes())
    assert content[36:40] == b"data"
    content[4:8], content[40:44] = struct.pack("<I", whole), struct.pack("<I", size)
    (tmp_path / "pipe.wav").write_bytes(content)
    samples, rate = read_pcm(tmp_path / "pipe.wav")
    np.testing.assert_array_equal(samples, np.frombuffer(content[44:], "<i2").reshape(-1, channels) / np.float32(2**15))
    assert rate == RATE
    assert scan_pcm(tmp_path / "pipe.wav") == scan_pcm(tmp_path / "x.wav")
    assert torch.equal(read_waveform(tmp_path / "pipe.wav", 8_000)[0], read_waveform(tmp_path / "x.wav", 8_000)[0])


def test_a_flac_file_of_unknown_length_is_used_to_its_end(tmp_path: Path) -> None:
    content = bytearray(put(tmp_path / "x.flac", noise(RATE)).read_bytes())
    # STREAMINFO follows the 8 bytes of the first head; its last 36 bits before the MD5 are the samples.
    assert struct.unpack(">Q", content[18:26])[0] & (2**36 - 1) == RATE
    content[21] &= 0xF0
    content[22:26] = bytes(4)
    (tmp_path / "pipe.flac").write_bytes(content)
    assert scan_pcm(tmp_path / "pipe.flac") == scan_pcm(tmp_path / "x.flac")
    (tmp_path / "cut.flac").write_bytes(content[: len(content) // 2])
    assert "cannot be decoded after" in refusal(tmp_path / "cut.flac")
    content[21] |= 0x0F
    (tmp_path / "huge.flac").write_bytes(content)
    assert f"{RATE} of {15 * 2**32} samples" in refusal(tmp_path / "huge.flac")


@pytest.mark.parametrize(("suffix", "subtype"), [("flac", "PCM_16"), ("ogg", "VORBIS"), ("opus", "OPUS")])
def test_a_recording_damaged_in_its_middle_is_rejected(tmp_path: Path, suffix: str, subtype: str) -> None:
    kind = "FLAC" if suffix == "flac" else "OGG"
    content = bytearray(put(tmp_path / f"x.{suffix}", noise(8 * RATE), format=kind, subtype=subtype).read_bytes())
    middle = slice(len(content) // 2, len(content) // 2 + 200)
    content[middle] = bytes(byte ^ 0x5A for byte in content[middle])
    (tmp_path / f"y.{suffix}").write_bytes(content)
    said = refusal(tmp_path / f"y.{suffix}")
    assert "damaged" in said or "cannot be decoded after" in said


def mpeg_frames_of(content: bytes) -> list[int]:
    """Where the frames of an MPEG 2 layer III file at 16 kHz begin, and its end."""
    places = [0]
    while places[-1] < len(content):
        head = content[places[-1] :]
        assert head[:2] in (b"\xff\xf3", b"\xff\xf2")
        kbits = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)[head[2] >> 4]
        places.append(places[-1] + 72_000 * kbits // RATE + (head[2] >> 1 & 1))
    return places


def test_an_mp3_without_a_header_of_its_length_is_used_whole_or_not_at_all(tmp_path: Path) -> None:
    loud = (np.arange(20 * RATE) // RATE % 3 == 0)[:, None]
    path = put(tmp_path / "x.mp3", noise(20 * RATE) * loud, bitrate_mode="VARIABLE", compression_level=0.5)
    content = path.read_bytes()
    places = mpeg_frames_of(content)
    assert b"Xing" in content[: places[1]]
    assert scan_pcm(path).num_samples == 20 * RATE
    path.write_bytes(content + b"TAG" + bytes(125))
    assert scan_pcm(path).num_samples == 20 * RATE
    sizes = np.diff(places)
    small, large = 1 + int(sizes[1:300].argmin()), 1 + int(sizes[1:300].argmax())
    # libsndfile takes the length of the file over the length of the first frame: here too many frames,
    path.write_bytes(content[places[small] :])
    assert scan_pcm(path).num_samples == 576 * (len(sizes) - small)
    # and here too few: it would leave out the end and say nothing.
    path.write_bytes(b"ID3\x04\0\0\0\0\x01\x00" + bytes(128) + content[places[large] :])
    assert soundfile.info(path).frames < 400 * (len(sizes) - large)
    assert f"of about {576 * (len(sizes) - large)} samples" in refusal(path)


# What is unusual, and used.


@pytest.mark.parametrize(
    ("suffix", "rate", "channels", "options"),
    [
        ("wav", 8_000, 1, {}),
        ("wav", 96_000, 1, {}),
        ("wav", 48_000, 8, {}),
        ("wav", 16_000, 1, {"subtype": "PCM_24"}),
        ("wav", 16_000, 2, {"subtype": "PCM_U8"}),
        ("wav", 16_000, 1, {"subtype": "DOUBLE"}),
        ("mp3", 44_100, 2, {}),
        ("ogg", 22_050, 1, {}),
        ("opus", 48_000, 2, {"format": "OGG", "subtype": "OPUS"}),
        ("wav", 22_254, 1, {}),
        ("wav", 44_056, 1, {}),
        ("wav", 16_001, 1, {}),
    ],
)
def test_an_unusual_recording_keeps_its_sound(
    folder: Path, suffix: str, rate: int, channels: int, options: dict[str, Any]
) -> None:
    path = put(folder / "s1" / "neu" / f"x.{suffix}", tone(440.0, 1.0, rate, channels), rate, **options)
    rows = {row.path: row for row in scan(CORPUS, folder.parent).manifest.utterances}
    row = rows[f"s1/neu/x.{suffix}"]
    assert (row.num_samples, row.sample_rate) == (rate, rate)
    waveform, sha256 = read_waveform(path, RATE)
    assert sha256 == row.sha256
    assert (waveform.dtype, tuple(waveform.shape)) == (torch.float32, (RATE,))
    mean = sum(2.0**-channel for channel in range(channels)) / channels
    expected = mean * tone(440.0, 1.0, RATE)[:, 0]
    inner = slice(1_000, -1_000)
    lossy = suffix in ("mp3", "ogg", "opus") or options.get("subtype") == "PCM_U8"
    np.testing.assert_allclose(waveform.numpy()[inner], expected[inner], atol=0.02 if lossy else 2e-4)


def test_clipping_and_an_offset_are_no_reason_to_reject(tmp_path: Path) -> None:
    clipped = np.clip(4 * tone(200.0, 0.5, RATE, level=1.0), -1, 1 - 2**-15)
    assert scan_pcm(put(tmp_path / "clipped.wav", clipped)).num_samples == RATE // 2
    assert scan_pcm(put(tmp_path / "offset.wav", 0.3 + 0.1 * tone(200.0, 0.5, RATE))).num_samples == RATE // 2


def test_rates_without_a_common_measure_are_resampled_as_others_are() -> None:
    mono = torch.from_numpy(noise(9_001)[:, 0]).float()
    for source, target in ((12_345, 16_000), (44_100, 16_000), (16_000, 11_025), (8_000, 16_000)):
        expected = torchaudio.functional.resample(mono, source, target)
        found = resample_without_table(mono, source, target)
        assert len(found) == resampled_length(9_001, source, target)
        # torchaudio takes the places of its weights in float32.
        torch.testing.assert_close(found, expected, atol=3e-4 if source == 12_345 else 1e-4, rtol=0)


# Decoding in blocks.


@pytest.mark.parametrize(("suffix", "kind", "subtype", "endian"), CONTAINERS)
@pytest.mark.parametrize("block", [1_000, 4_097])
def test_blocks_give_what_soundfile_gives_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, kind: str, subtype: str, endian: str, block: int
) -> None:
    monkeypatch.setattr(mser.audio, "BLOCK_SAMPLES", block)
    channels = 1 if subtype == "GSM610" else 2
    path = put(tmp_path / f"x.{suffix}", noise(3 * 4_097 + 1, channels), format=kind, subtype=subtype, endian=endian)
    samples, rate = read_pcm(path)
    if subtype != "GSM610":  # which soundfile cannot read at once
        np.testing.assert_array_equal(samples, soundfile.read(path, dtype="float32", always_2d=True)[0])
    digest = hashlib.sha256(f"{RATE} {channels} ".encode() + samples.tobytes()).hexdigest()
    assert scan_pcm(path) == PcmInfo(len(samples), RATE, channels, digest)
    assert pcm_sha256(samples, rate) == digest
    waveform, found = read_waveform(path, 22_050)
    assert found == digest
    assert torch.equal(waveform, to_waveform(samples, rate, 22_050))


@pytest.mark.parametrize("channels", [1, 2, 3, 7, 8, 9, 64])
def test_the_mean_over_channels_does_not_depend_on_blocks(tmp_path: Path, channels: int) -> None:
    path = put(tmp_path / "x.wav", noise(5_000, channels), subtype="FLOAT")
    whole = read_waveform(path, RATE)[0]
    for block in (1, 1_000, 4_999 * channels):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(mser.audio, "BLOCK_SAMPLES", block)
            assert torch.equal(read_waveform(path, RATE)[0], whole)
    assert torch.equal(to_waveform(*read_pcm(path), RATE), whole)


def peak_of(read: Callable[[], Any]) -> int:
    """The largest number of bytes that Python and numpy held at once."""
    tracemalloc.start()
    try:
        read()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_neither_length_nor_channels_need_memory(tmp_path: Path) -> None:
    """Half an hour at 8 kHz, mono, and a minute of eight channels at 48 kHz, 92 MB as float32."""
    long = np.tile(noise(8_000, 1), (1_800, 1))
    wide = np.tile(noise(48_000, 8), (60, 1))
    put(tmp_path / "long.wav", long, 8_000)
    put(tmp_path / "wide.wav", wide, 48_000)
    put(tmp_path / "mono.wav", wide[:, :1], 48_000)
    del long, wide
    block = 4 * mser.audio.BLOCK_SAMPLES
    for name, seconds in (("long", 1_800), ("wide", 60)):
        assert peak_of(lambda name=name: scan_pcm(tmp_path / f"{name}.wav")) < 4 * block
        info = scan_pcm(tmp_path / f"{name}.wav")
        assert info.num_samples == seconds * info.sample_rate
    mono, wide_peak = (
        peak_of(lambda name=name: read_waveform(tmp_path / name, RATE)) for name in ("mono.wav", "wide.wav")
    )
    assert mono > 60 * 48_000 * 4
    assert wide_peak < mono + 2 * block

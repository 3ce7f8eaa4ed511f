"""Recordings of every kind of badness: used as they are meant, or rejected by name with the reason."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import struct
import threading
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import torchaudio.functional
from conftest import tone

import extract.manifest
import mser.audio
from extract.listing import candidates
from extract.manifest import Scan, scan
from mser.audio import MIN_SECONDS, PcmInfo, pcm_sha256, read_pcm, read_waveform, scan_pcm, to_waveform
from mser.config import Workspace
from mser.containers import FOREIGN_SUFFIXES, SUFFIXES
from mser.corpus import CorpusDefinition
from mser.errors import AudioError, CorpusError, ManifestError
from mser.manifest import Manifest, read_manifests
from mser.resampling import resample_without_table, resampled_length

RATE = 16_000
CORPUS = CorpusDefinition(
    name="odd", title="t", language="de", licence="l", citation="c", get="g",
    emotions={"ang": "anger", "neu": "neutral"}, folders=("speaker", "emotion"),
)  # fmt: skip
# suffix, format, subtype, byte order of what libsndfile writes
CONTAINERS = [
    ("wav", "WAV", "PCM_16", "FILE"),
    ("wav", "WAV", "PCM_24", "FILE"),
    ("wav", "WAV", "FLOAT", "FILE"),
    ("wav", "WAV", "PCM_16", "BIG"),
    ("wav", "WAV", "ULAW", "FILE"),
    ("wav", "WAV", "IMA_ADPCM", "FILE"),
    ("wav", "WAV", "GSM610", "FILE"),
    ("wav", "WAVEX", "PCM_16", "FILE"),
    ("rf64", "RF64", "PCM_16", "FILE"),
    ("w64", "W64", "PCM_16", "FILE"),
    ("aiff", "AIFF", "PCM_16", "FILE"),
    ("aifc", "AIFF", "FLOAT", "FILE"),
    ("au", "AU", "PCM_16", "FILE"),
    ("caf", "CAF", "PCM_16", "FILE"),
    ("sph", "NIST", "PCM_16", "FILE"),
    ("voc", "VOC", "PCM_16", "FILE"),
    ("flac", "FLAC", "PCM_16", "FILE"),
    ("flac", "FLAC", "PCM_24", "FILE"),
    ("mp3", "MP3", "MPEG_LAYER_III", "FILE"),
    ("ogg", "OGG", "VORBIS", "FILE"),
    ("opus", "OGG", "OPUS", "FILE"),
]


def noise(frames: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.5, 0.5, (frames, channels))


def put(path: Path, samples: np.ndarray | None = None, rate: int = RATE, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(RATE // 2) if samples is None else samples, rate, **options)
    return path


def reasons(found: Scan) -> dict[str, str]:
    return {item.path: item.reason for item in found.rejected}


def refusal(path: Path) -> str:
    """The reason for which all three ways of reading refuse a recording."""
    said = set()
    for read in (read_pcm, scan_pcm, lambda path: read_waveform(path, RATE)):
        with pytest.raises(AudioError) as error:
            read(path)
        assert error.value.file == path
        said.add(error.value.what)
    assert len(said) == 1
    return said.pop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of the corpus ``odd`` with one healthy recording, ``s1/ang/good.wav``."""
    put(tmp_path / "odd" / "s1" / "ang" / "good.wav", noise(RATE, seed=99))
    return tmp_path / "odd"


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


# Names.

NAMES = ["a b", "line\nbreak", "carriage\rreturn", "both\r\nof them", "Zürich", "cafe\u0301", "声音",
         '"quoted", with comma', "-rf", "x" * 200, "dots.in.it", "trailing "]  # fmt: skip


def test_names_of_all_kinds_survive_from_the_folder_to_the_manifest(folder: Path, tmp_path: Path) -> None:
    for number, name in enumerate(NAMES):
        put(folder / "s1" / "neu" / f"{name}.wav", noise(4_000, seed=number))
    found = scan(CORPUS, folder.parent)
    assert found.rejected == ()
    workspace = Workspace(tmp_path / "work")
    found.manifest.write(workspace, [], [])
    read = Manifest.read(workspace, "odd")
    assert read == found.manifest
    assert {row.path for row in read.utterances} == {f"s1/neu/{name}.wav" for name in NAMES} | {"s1/ang/good.wav"}
    for row in read.utterances:
        assert scan_pcm(folder / row.path).sha256 == row.sha256


def test_a_name_that_is_not_utf8_is_rejected_in_letters_that_print(folder: Path, tmp_path: Path) -> None:
    try:
        os.rename(put(folder / "s1" / "x.wav"), os.fsencode(folder) + b"/s1/ang/caf\xe9.wav")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    found = scan(CORPUS, folder.parent)
    assert reasons(found) == {"s1/ang/caf\\xe9.wav": "its name is not UTF-8; rename it"}
    path = found.manifest.write(Workspace(tmp_path / "work"), found.rejected, [])
    assert "caf\\xe9.wav" in path.with_suffix(".rejected.csv").read_text(encoding="utf-8")


def test_a_table_fits_names_that_macos_wrote(tmp_path: Path) -> None:
    put(tmp_path / "odd" / "mu\u0308de.wav")
    (tmp_path / "odd" / "labels.csv").write_text("file,who,what\nmüde.wav,Jürgen,neu\n", encoding="utf-8")
    table = {"file": "labels.csv", "path": "file", "columns": {"speaker": "who", "emotion": "what"}}
    found = scan(replace(CORPUS, folders=None, table=table), tmp_path)
    assert [(row.path, row.speaker) for row in found.manifest.utterances] == [("mu\u0308de.wav", "Jürgen")]


def test_a_table_that_labels_a_recording_twice_is_not_believed(folder: Path) -> None:
    for name in ("same", "unlike"):
        put(folder / f"{name}.wav", noise(4_000, seed=len(name)))
    rows = ["same.wav,s1,neu", "same.wav,s1,neu", "unlike.wav,s1,neu", "unlike.wav,s1,ang", "s1/ang/good.wav,../s1,neu"]
    (folder / "labels.csv").write_text("\n".join(["file,who,what", *rows]), encoding="utf-8")
    table = {"file": "labels.csv", "path": "file", "columns": {"speaker": "who", "emotion": "what"}}
    found = scan(replace(CORPUS, folders=None, table=table), folder.parent)
    assert [row.path for row in found.manifest.utterances] == ["same.wav"]
    assert reasons(found)["unlike.wav"] == "several rows of the table name it, and differ"
    assert "'../s1' leads out" in reasons(found)["s1/ang/good.wav"]


# Links, and files that may not be read.


def test_links_within_the_corpus_are_used_and_others_are_rejected(folder: Path, tmp_path: Path) -> None:
    put(tmp_path / "elsewhere" / "x.wav")
    links = folder / "s1" / "ang"
    (links / "inside.wav").symlink_to("good.wav")
    (links / "outside.wav").symlink_to(tmp_path / "elsewhere" / "x.wav")
    (links / "upwards.wav").symlink_to("../../../elsewhere/x.wav")
    (links / "dangling.wav").symlink_to("absent.wav")
    (links / "loop.wav").symlink_to("loop.wav")
    (links / "round").symlink_to(folder)
    (folder / "s2").symlink_to(tmp_path / "elsewhere")
    found = scan(CORPUS, folder.parent)
    out = "is a link that leads out of the corpus folder"
    assert reasons(found) == {
        "s1/ang/outside.wav": out,
        "s1/ang/upwards.wav": out,
        "s1/ang/dangling.wav": "is a link to a file that does not exist",
        "s1/ang/loop.wav": "is a link that leads to itself",
        "s1/ang/round": "is a link to a folder, which is not followed",
        "s2": out,
    }
    assert [row.path for row in found.manifest.utterances] == ["s1/ang/good.wav", "s1/ang/inside.wav"]


def test_the_corpus_folder_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    (folder / "s1" / "ang" / "inside.wav").symlink_to(folder / "s1" / "ang" / "good.wav")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "odd").symlink_to(folder)
    assert scan(CORPUS, tmp_path / "linked") == scan(CORPUS, folder.parent)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_rejected(folder: Path) -> None:
    put(folder / "s1" / "neu" / "closed.wav").chmod(0)
    put(folder / "s2" / "neu" / "x.wav").parent.parent.chmod(0)
    try:
        found = reasons(scan(CORPUS, folder.parent))
    finally:
        (folder / "s2").chmod(0o700)
    assert found == {
        "s1/neu/closed.wav": "cannot be decoded: Permission denied",
        "s2": "the folder cannot be read: Permission denied",
    }


def test_what_may_not_be_read_is_rejected_as_seen_by_root(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = put(folder / "s1" / "neu" / "closed.wav")
    put(folder / "s2" / "neu" / "x.wav")
    opened, listed = mser.audio._UnclosedWav, os.scandir

    def open_one(path: Path) -> Any:
        if path == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path)

    def list_one(path: Any) -> Any:
        if Path(path) == folder / "s2":
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(mser.audio, "_UnclosedWav", open_one)
    monkeypatch.setattr(os, "scandir", list_one)
    assert reasons(scan(CORPUS, folder.parent)) == {
        "s1/neu/closed.wav": "cannot be decoded: Permission denied",
        "s2": "the folder cannot be read: Permission denied",
    }


# Twins and duplicates.


def test_of_two_formats_of_one_name_the_usable_one_is_used(folder: Path) -> None:
    put(folder / "s1" / "ang" / "good.flac")
    (folder / "s1" / "ang" / "x.flac").touch()
    put(folder / "s1" / "ang" / "x.wav")
    found = scan(CORPUS, folder.parent)
    assert [row.path for row in found.manifest.utterances] == ["s1/ang/good.flac", "s1/ang/x.wav"]
    assert reasons(found)["s1/ang/good.wav"] == "same name as s1/ang/good.flac in another format"
    assert "cannot be decoded" in reasons(found)["s1/ang/x.flac"]


def test_recordings_of_the_same_samples_are_kept_and_named(folder: Path) -> None:
    samples = (noise(RATE) * 2**15).astype(np.int16)
    put(folder / "s1" / "ang" / "a.wav", samples)
    put(folder / "s2" / "neu" / "b.flac", samples)
    found = scan(CORPUS, folder.parent)
    assert len(found.manifest.utterances) == 3
    assert found.warnings == (
        "odd: the same samples in s1/ang/a.wav and s2/neu/b.flac; speakers s1, s2; emotions anger, neutral",
    )
    for number in range(8):
        for name in ("x", "y"):
            put(folder / "s3" / "neu" / f"{name}{number}.wav", noise(4_000, seed=number))
    warnings = scan(CORPUS, folder.parent).warnings
    assert len(warnings) == 6
    assert warnings[1] == "odd: the same samples in s3/neu/x0.wav and s3/neu/y0.wav"
    assert warnings[-1] == "odd: the same samples in 4 more groups of recordings"


# The scan in threads.


def test_progress_is_told_in_order_and_by_the_thread_that_scans(folder: Path) -> None:
    for number in range(20):
        put(folder / "s1" / "neu" / f"{number:02}.wav", noise(4_000 + 4_000 * (number % 3), seed=number))
    told: list[tuple[int, int, bool]] = []
    main = threading.current_thread()
    found = scan(CORPUS, folder.parent, lambda *counts: told.append((*counts, threading.current_thread() is main)))
    assert told == [(number, 21, True) for number in range(1, 22)]
    assert scan(CORPUS, folder.parent) == found


def test_an_interrupted_scan_decodes_no_more_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(60):
        put(folder / "s1" / "neu" / f"{number:02}.wav", noise(2_000, seed=number))
    decoded = []

    def slowly(path: Path) -> PcmInfo:
        decoded.append(path)
        time.sleep(0.01)
        return scan_pcm(path)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(extract.manifest, "scan_pcm", slowly)
    with pytest.raises(KeyboardInterrupt):
        scan(CORPUS, folder.parent, interrupt)
    assert len(decoded) <= 1 + 2 * extract.manifest.SCAN_THREADS


def test_a_folder_that_holds_nothing_else_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "odd" / "s1" / "ang").mkdir(parents=True)
    (tmp_path / "odd" / "s1" / "ang" / "x.m4a").touch()
    assert [item.fault for item in candidates(tmp_path / "odd")] == [
        "is .m4a, which cannot be decoded; convert it to flac"
    ]
    with pytest.raises(CorpusError, match=r"s1/ang/x\.m4a: is \.m4a, which cannot be decoded"):
        scan(CORPUS, tmp_path)


# Manifests that no scan wrote.


def forge(folder: Path, workspace: Workspace, **changes: Any) -> Path:
    """A manifest whose last row was changed, with a head that fits."""
    rows = scan(CORPUS, folder.parent).manifest.utterances
    rows = (*rows[:-1], replace(rows[-1], **changes))
    return Manifest("odd", "de", rows, CORPUS.fingerprint).write(workspace, [], [])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"path": "../elsewhere/x.wav"}, "leads out of the corpus folder"),
        ({"path": "s1/../../x.wav"}, "leads out of the corpus folder"),
        ({"path": "/etc/x.wav"}, "leads out of the corpus folder"),
        ({"path": "s1/x\0.wav"}, "leads out of the corpus folder"),
        ({"path": ""}, "is empty"),
        ({"utterance_id": ""}, "is empty"),
        ({"speaker": ""}, "is empty"),
        ({"emotion": ""}, "is empty"),
        ({"utterance_id": "odd/s1/ang/good"}, "occurs twice"),
        ({"speaker": "../../x"}, "leads out of their folder"),
        ({"corpus": "other"}, "'other'"),
        ({"language": "it"}, "'it'"),
        ({"sample_rate": 0}, "no samples"),
        ({"num_samples": -1}, "no samples"),
    ],
)
def test_a_manifest_with_a_row_that_no_scan_writes_is_refused(
    folder: Path, workspace: Workspace, changes: dict[str, Any], words: str
) -> None:
    put(folder / "s1" / "neu" / "x.wav")
    path = forge(folder, workspace, **changes)
    with pytest.raises(ManifestError, match=words) as error:
        Manifest.read(workspace, "odd")
    assert (error.value.file, error.value.field) == (path, "row 2")
    assert repr(changes.get("path", "s1/neu/x.wav")) in str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"corpus": "../../odd"}, "of another corpus"),
        ({"language": None}, "head of a manifest is damaged"),
        ({"fingerprint": 3}, "head of a manifest is damaged"),
        (["no", "mapping"], "head of a manifest is damaged"),
    ],
)
def test_a_manifest_with_a_damaged_head_is_refused(
    folder: Path, workspace: Workspace, content: Any, words: str
) -> None:
    put(folder / "s1" / "neu" / "x.wav")
    head = forge(folder, workspace).with_suffix(".json")
    whole = json.loads(head.read_bytes())
    head.write_text(json.dumps({**whole, **content} if isinstance(content, dict) else content), encoding="utf-8")
    for read in (lambda: Manifest.read(workspace, "odd"), lambda: read_manifests(workspace, None)):
        with pytest.raises(ManifestError, match=words) as error:
            read()
        assert str(head) in str(error.value)


def test_rows_that_are_no_rows_are_an_error_of_the_manifest(folder: Path, workspace: Workspace) -> None:
    path = forge(folder, workspace)
    text = path.read_text(encoding="utf-8")
    for damage in ("x" * 200_000, "a\0b", 'unquoted\rreturn,"'):
        path.write_text(text + damage, encoding="utf-8", newline="")
        with pytest.raises(ManifestError, match=r"damaged row|changed after"):
            Manifest.read(workspace, "odd")
    with path.open(encoding="utf-8", newline="") as file:
        assert list(csv.DictReader(file))

"""Folders that `mser corpora new` is tried on: schemes of names, tables of recordings, what is read again."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

from click.testing import CliRunner, Result

from mser.corpora import CorpusDefinition
from mser.corpora.cli import corpora_group
from mser.corpora.new import Draft
from mser.corpora.outcome import Outcome, read_names
from mser.corpora.recordings import candidates

RNG = random.Random(0)


WORDS = "back bar base bath bean beg bite boat bone book".split()


# A scheme -> its names.
NAMES: dict[str, list[str]] = {
    "ravdess": [
        f"Actor_{who:02}/03-01-{one:02}-{level:02}-{text:02}-{take:02}-{who:02}.wav"
        for who in range(1, 25) for one in range(1, 9) for level in (1, 2) for text in (1, 2) for take in (1, 2)
        if not (one == 1 and level == 2)
    ],
    "cremad": [
        f"{who}_{text}_{one}_{level}.wav"
        for who in range(1001, 1012) for text in ("DFA", "IEO", "IOM") for one in "ANG DIS FEA HAP NEU SAD".split()
        for level in (("LO", "MD", "HI") if text == "IEO" and one != "NEU" else ("XX",))
    ],
    "tess": [
        f"{who}_{one}/{who}_{word}_{one}.wav"
        for who in ("OAF", "YAF") for word in WORDS for one in "angry disgust fear happy neutral ps sad".split()
    ],
    "speaker-emotion": [
        f"{who}/{one}/{number:03}.wav" for who in ("anna", "bert", "carl") for one in ("Wut", "Freude", "Trauer")
        for number in range(1, 11)
    ],
    "emotion-speaker": [
        f"wav/{one}/{who}/rec {number}.wav" for one in ("triste", "joie", "colère") for who in ("p1", "p2", "p3")
        for number in range(1, 11)
    ],
    "shemo": [
        f"{who}{one}{number:02}.wav" for who in ("F01", "F02", "F03", "M01", "M02") for one in "AFHNSW"
        for number in range(1, RNG.randint(3, 15))
    ],
    "mess": [
        f"{one}{who}{kind}{number:02}_SCR.wav" for one in "ACHS" for who in ("F1", "F2", "M1", "M2") for kind in "MTV"
        for number in range(1, 6)
    ],
    "alone": [f"{one}_{number:03}.wav" for one in ("angry", "happy", "sad") for number in range(1, 31)],
}  # fmt: skip


def put(folder: Path, names: Iterable[str]) -> Path:
    """Empty files: nothing is decoded."""
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(corpora_group, [str(one) for one in arguments], env={"MSER_DEFINITIONS": None})


def outcome_by(definition: CorpusDefinition, folder: Path) -> Outcome:
    return read_names(definition.reader(folder), [one.relative for one in candidates(folder)])


ROWS = [(f"{n}.wav", f"s{n % 4}", ("Wut", "Freude", "Trauer")[n % 3]) for n in range(40)]


def tabled(
    folder: Path, tables: dict[str, list[tuple[str, ...]]], encoding: str = "utf-8", head: str = "emotion"
) -> Path:
    """Recordings whose names tell nothing, and tables of them."""
    put(folder, [row[0] for row in ROWS])
    for name, rows in tables.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        text = "\n".join(map(",".join, [("file", "speaker", head), *rows])) + "\n"
        (folder / name).write_text(text, encoding=encoding)
    return folder


def read_again(one: Draft, folder: Path) -> Outcome:
    """What the written definition reads."""
    path = folder.with_name("again.yaml")
    path.write_text(one.text, encoding="utf-8")
    return outcome_by(CorpusDefinition.from_yaml(path), folder)

"""Published folds audited by names: made-up fold files of real naming schemes, against counts by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import run

from mser.corpora import load_definitions
from mser.corpora.splits import emobox_verdicts
from mser.errors import ProtocolError


def write_folds(root: Path, corpus: str, folds: list[tuple[list[str], list[str]]]) -> None:
    """Fold files of a corpus as the EmoBox project has them: training and test of each fold."""
    for number, parts in enumerate(folds, start=1):
        folder = root / "data" / corpus / f"fold_{number}"
        folder.mkdir(parents=True)
        for part, names in zip(("train", "test"), parts, strict=True):
            lines = [json.dumps({"wav": f"downloads/{corpus}/{name}"}) for name in names]
            (folder / f"{corpus}_{part}_fold_{number}.jsonl").write_text("\n".join(lines), encoding="utf-8")


SHARED = (["wav/03a01Fa.wav", "wav/03a02Wb.wav", "wav/08a01Na.wav"], ["wav/03b01Ta.wav", "wav/09a01La.wav"])
DISJOINT = [(["DC_a01.wav", "JE_n02.wav"], ["KL_sa03.wav"]), (["KL_sa03.wav", "JE_n02.wav"], ["DC_a01.wav"])]


def test_a_shared_speaker_is_counted_by_test_utterances_and_a_disjoint_split_said_to_be_one(tmp_path: Path) -> None:
    write_folds(tmp_path, "emodb", [SHARED])
    write_folds(tmp_path, "savee", DISJOINT)
    found = {one.corpus: one for one in emobox_verdicts(tmp_path, load_definitions(), tmp_path)}
    leaky, clean = found["emodb"], found["savee"]
    assert leaky.verdict == "LEAKY: the speakers of 1 of 2 are in training"
    assert (leaky.folds, leaky.names, leaky.read, leaky.tested) == (1, 5, 5, 2)
    assert (clean.verdict, clean.folds, clean.names, clean.read, clean.tested) == ("disjoint in speakers", 2, 3, 3, 2)


def test_what_cannot_be_told_says_why(tmp_path: Path) -> None:
    write_folds(tmp_path, "nobody_knows", [(["a.wav"], ["b.wav"])])
    write_folds(tmp_path, "emovo", [(["a.wav"], ["b.wav"])])
    write_folds(tmp_path, "mesd", [(["Anger_F_B_ofensa.wav"], ["Anger_C_B_catastrofe.wav"])])
    write_folds(tmp_path, "emns", [(["a.webm"], ["b.webm"])])
    (tmp_path / "data" / "cafe" / "fold_1").mkdir(parents=True)
    found = {one.corpus: one.verdict for one in emobox_verdicts(tmp_path, load_definitions(), tmp_path)}
    assert found["nobody_knows"] == "no definition"
    assert "reads none of its names" in found["emovo"]
    assert "speakers are unknown" in found["mesd"]
    assert "table is not there" in found["emns"]
    assert "could not be read" in found["cafe"]


def test_a_folder_without_folds_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProtocolError, match="not part of mser"):
        emobox_verdicts(tmp_path, load_definitions(), tmp_path)


def test_the_command_prints_a_row_a_corpus_and_what_the_audit_says(tmp_path: Path) -> None:
    write_folds(tmp_path, "emodb", [SHARED])
    done = run("mser", "corpora", "splits", "--published", str(tmp_path), "--messages", environment={"COLUMNS": "160"})
    assert done.returncode == 0, done.stderr
    assert "LEAKY: the speakers of 1 of 2" in " ".join(done.stdout.split())
    assert "emodb: LEAKY: the speakers of 1 test utterances are in training." in done.stdout

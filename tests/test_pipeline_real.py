"""Both stages end to end through their commands, on real speech with a real model where they are present."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from commands import QUICK, must, results_of


@pytest.mark.real
def test_real_speech_goes_through_both_stages_with_a_real_model(tmp_path):
    corpora = Path(os.environ.get("MSER_CORPORA", "corpora"))
    model = os.environ.get("MSER_TEST_UPSTREAM")
    if not (corpora / "emodb").is_dir() or not model:
        pytest.skip("needs EmoDB below MSER_CORPORA, and MSER_TEST_UPSTREAM: the folder of a pretrained model")
    for path in (corpora / "emodb").rglob("*.wav"):
        # Three speakers, three of the ten sentences, anger and sadness.
        if path.stem[:2] in ("03", "08", "09") and path.stem[2:5] in ("a01", "a02", "b02") and path.stem[5] in "WT":
            target = tmp_path / "corpora" / "emodb" / path.relative_to(corpora / "emodb")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    environment = {
        "MSER_HOME": str(tmp_path / "work"),
        "MSER_CORPORA": str(tmp_path / "corpora"),
        **QUICK,
        "SEEDS": "0",
        "STRATEGIES": "beta fixed",
        "METHODS": "logistic fixed searched",
    }
    said = must("extract", "manifest", "--language", "de", environment=environment)
    assert "published 535" in said
    must("extract", "states", "--language", "de", "--upstreams", f"acoustic {model}", environment=environment)
    must("train", "search", environment={**environment, "EPOCHS": "60"})
    said = must("train", "fit", environment={**environment, "EPOCHS": "60"})
    assert "no speaker and no recording crosses a fold" in " ".join(said.split())
    uar = {one["method"]: one["uar"]["mean"] for one in results_of(tmp_path / "work")["results"]}
    # Anger against sadness is easy for a real model, on speakers it never heard.
    assert uar["logistic"] > 80
    assert uar["fixed"] > 80

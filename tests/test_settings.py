"""Settings given by name, and what they refuse."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mser.errors import ConfigError
from train.run import settings_of
from train.settings import StudySettings, changed


def test_named_settings_change_and_nothing_else() -> None:
    base = StudySettings()
    found = changed(base, ["fit.loss.mixup=0.4", "model.dropout=0", "fit.loss.contrastive=none", "candidates=7"])
    loss = replace(base.fit.loss, mixup=0.4, contrastive="none")
    model = replace(base.model, dropout=0.0)
    assert found == replace(base, fit=replace(base.fit, loss=loss), model=model, candidates=7)
    assert isinstance(found.model.dropout, float)
    assert changed(base, []) == base


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("fit.loss.mix=0.4", "Unknown setting"),
        ("loss.mixup=0.4", "Unknown setting"),
        ("fit.loss=0.4", "group of settings"),
        ("fit.epochs=many", "another type"),
        ("fit.epochs=1.5", "another type"),
        ("fit.loss.balanced=1", "another type"),
        ("fit.epochs.more=1", "another type"),
        ("fit.loss.mixup=0.9", "Out of range"),
        ("fit.loss.contrastive=triplet", "contrastive"),
        ("fit.epochs=0", "Too small"),
        ("fit.epochs", "another type"),
    ],
)
def test_what_cannot_be_set_is_refused_by_name(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        changed(StudySettings(), [assignment])


def test_settings_read_back_from_a_run_are_those_that_were_written() -> None:
    settings = changed(StudySettings(), ["fit.loss.mixup=0.4", "features.kind=frames", "search.epochs=3"])
    assert settings_of(settings.to_dict()) == settings

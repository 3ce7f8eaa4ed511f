"""Every system on a CUDA device, beside its answer on the CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from toy_tasks import cross_tasks, toy_languages, within_tasks

from train.benchmark.cells import Asked
from train.systems import SYSTEMS

EXTRA = ("compare", "mfcc", "prosody", "logmel-256", "logmel-512")


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> list[Asked]:
    root: Path = tmp_path_factory.mktemp("toys")
    languages = toy_languages(root, extra=EXTRA)
    return [*within_tasks(languages)[:1], *cross_tasks(languages)[:2]]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_answers_on_a_device_as_it_does_on_the_cpu(name: str, asked: list[Asked]) -> None:
    system = SYSTEMS[name].system
    if name == "gated-searched":
        pytest.skip("needs a search of the toy language")
    for one in asked:
        if one.task.protocol not in system.protocols:
            continue
        answers = [
            system.answer(replace(one.task, device=torch.device(device), shared={})) for device in ("cpu", "cuda")
        ]
        said = [answer.probabilities for answer in answers]
        right = [float((own.argmax(1) == one.truth).mean()) for own in said]
        assert said[1].shape == (len(one.truth), len(one.task.emotions))
        assert np.isfinite(said[1]).all()
        # Dropout draws other masks on a device: the answers are alike, not equal.
        assert right[1] >= right[0] - 0.35
        assert answers[0].parameters == answers[1].parameters

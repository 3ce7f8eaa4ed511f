"""Tasks of the benchmark on small languages made up in a folder, for tests of systems."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from toys import make_workspace

from mser.config import Workspace
from mser.mapping import EMOTIONS
from train.benchmark.cells import Asked, Pair, tasks_of
from train.data import Features, load_languages
from train.systems.task import FEW_SHOT, WITHIN, ZERO_SHOT, Language

UPSTREAMS = ("loud", "quiet")


def toy_languages(root: Path, names: Sequence[str] = ("de", "it"), extra: Sequence[str] = ()) -> dict[str, Language]:
    """Languages of four speakers with six utterances each, of anger, fear and joy, which stand out in ``loud``.

    Args:
        extra: names of further upstreams that are cached, beside the experts.
    """
    workspace = make_workspace(root, names, (*UPSTREAMS, *extra))
    return languages_of(workspace, names)


def languages_of(workspace: Workspace, names: Sequence[str]) -> dict[str, Language]:
    """The languages of a workspace, with :data:`UPSTREAMS` as experts."""
    found = load_languages(workspace, names, UPSTREAMS, Features())
    return {data.language: Language(data, workspace) for data in found}


def within_tasks(languages: dict[str, Language], name: str = "de", seeds: Sequence[int] = (0,)) -> list[Asked]:
    """A task for each test speaker of a language."""
    return tasks_of(Pair(EMOTIONS, name, name), languages, [WITHIN], [], seeds, torch.device("cpu"))


def cross_tasks(
    languages: dict[str, Language], shots: Sequence[int] = (1,), labels: str = EMOTIONS, seeds: Sequence[int] = (0,)
) -> list[Asked]:
    """From the first language to the second: each half of its speakers, without shots and with each k of ``shots``."""
    source, target = list(languages)[:2]
    pair = Pair(labels, source, target)
    return tasks_of(pair, languages, [ZERO_SHOT, FEW_SHOT], shots, seeds, torch.device("cpu"))

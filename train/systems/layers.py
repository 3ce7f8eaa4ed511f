"""Single layers judged on the dev speakers of a task's source: the choice that several systems begin with."""

from __future__ import annotations

import numpy as np

from mser.config import read_if_whole, write_json
from mser.probe import dev_uar
from mser.protocol import Split
from train.systems.task import Task


def layer_scores(task: Task) -> dict[str, list[float]]:
    """Dev UAR, percent, of logistic regression on the mean over frames of each layer of each of the task's upstreams.

    They depend on the source alone: they are kept in a file, for all systems, tasks and seeds.
    """

    def found() -> dict[str, list[float]]:
        path = task.probes_path
        if path and (kept := read_if_whole(path, task.upstreams)):
            return {name: kept[name] for name in task.upstreams}
        splits = [Split(*split) for split in task.splits]
        scores = {}
        for name in task.upstreams:
            means = task.source.pooled(name)[:, :, 0].numpy()
            layers = range(means.shape[1])
            scores[name] = [dev_uar(means[:, layer], task.source.labels, splits) for layer in layers]
        if path:
            write_json(path, scores)
        return scores

    return task.once("layer scores", found)


def best_layers(task: Task) -> dict[str, int]:
    """The layer of each upstream that dev speakers of the source prefer; the earlier of equals."""
    return {name: int(np.argmax(scores)) for name, scores in layer_scores(task).items()}


def best_layer(task: Task) -> tuple[str, int]:
    """Upstream and layer that dev speakers of the source prefer."""
    scores = layer_scores(task)
    name = max(scores, key=lambda key: max(scores[key]))
    return name, int(np.argmax(scores[name]))

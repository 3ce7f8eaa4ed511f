"""A head as ONNX against torch: what it says, how large it is, and how long an utterance takes.

    python -m bench.export --home WORKSPACE --run RUN [--language it]

All utterances of the language from the stores that the run was trained on; differences as `mser export-head` prints
them. Times are those of the heads alone, on one thread, of states that lie in memory: onnxruntime and torch run in
every round in a random order, and the ratio is taken within a round: the median, and the middle half of the rounds in
brackets. Needs mser[onnx].
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from bench.common import facts, in_turn, ratio, scratch, table
from mser.config import Workspace
from mser.export.cli import chosen
from mser.export.network import parts_of
from mser.export.onnx_model import OUTPUTS, export_head, feed, session_of
from mser.export.states import Sample, sample
from mser.loader import Batch
from mser.predict.head import TrainedHead, load_heads
from mser.runs import run_path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, default=Path("work"))
    parser.add_argument("--run", required=True)
    parser.add_argument("--language", default="")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batches", default="1 32", help="utterances at a time")
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(facts())
    workspace = Workspace(given.home)
    head = chosen(load_heads(run_path(given.run, workspace)), given.language)
    found = sample(head, workspace, most=10**9)
    print(f"{head.language}: {parts_of(head)}; {found.utterances} {'real' if found.real else 'made-up'} utterances")
    with scratch(None) as folder:
        done = export_head(head, folder / "head.onnx", found.batches())
        content = done.path.read_bytes()
    rows = [[name, f"{value:.1e}"] for name, value in done.differences.items()]
    rows += [["model file, kB", f"{head.path.stat().st_size / 1e3:.0f}"], ["ONNX file, kB", f"{done.size / 1e3:.0f}"]]
    print(table(f"Largest difference from torch, {done.utterances} utterances", ["of", ""], rows))
    names = [name.removeprefix("states_") for name in done.inputs if name.startswith("states_")]
    print(times(head, found, content, tuple(names), [int(size) for size in given.batches.split()], given.rounds))


def times(
    head: TrainedHead, found: Sample, content: bytes, names: tuple[str, ...], sizes: list[int], rounds: int
) -> str:
    """A table: a row a batch size."""
    session, own = session_of(content), list(head.keys)
    every = np.concatenate(found.rows)
    rows = []
    for size in sizes:
        cut = [every[start : start + size] for start in range(0, min(len(every), 64 * size), size)]
        # Kept: a loader's buffers are used again.
        batches = [_kept(found, part) for part in cut]
        fed = [feed(batch, own, names) for batch in batches]
        count = sum(len(part) for part in cut)

        def by_torch(batches: list[Batch] = batches) -> None:
            with torch.inference_mode():
                for batch in batches:
                    output = head.model(head.language, batch)
                    (output.logits / head.temperature).softmax(1)

        def by_onnx(fed: list[dict[str, np.ndarray]] = fed) -> None:
            for one in fed:
                session.run(list(OUTPUTS), one)

        contestants: dict[str, Callable[[], object]] = {"torch": by_torch, "onnxruntime": by_onnx}
        in_turn(contestants, 2)
        spent = in_turn(contestants, rounds)
        medians = [f"{1e6 * float(np.median(spent[name])) / count:.0f}" for name in contestants]
        rows.append([str(size), *medians, ratio(spent["torch"], spent["onnxruntime"])[1]])
    header = ["utterances at a time", "torch, µs each", "onnxruntime, µs each", "torch / onnxruntime"]
    return table("Time of the head for an utterance", header, rows)


def _kept(found: Sample, rows: np.ndarray) -> Batch:
    batch = found.loader.gather(rows)
    return batch._replace(states=tuple(states.clone() for states in batch.states))


if __name__ == "__main__":
    main()

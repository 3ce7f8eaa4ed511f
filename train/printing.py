"""What the commands of stage two print, beside progress and the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from mser.config import write_json, write_text
from mser.terminal import console, print_table
from train.data import LanguageData
from train.events import Log
from train.report import genotype_picture
from train.settings import Inputs


def print_against_random(
    found: dict[str, dict[str, dict[str, Any]]], folds: Sequence[str], strategies: Sequence[str]
) -> None:
    """How each strategy's dev score compares with the best of random search, over the test folds."""
    rows = []
    for name in strategies:
        if name == "random":
            continue
        pairs = [(found[fold][name], found[fold]["random"]) for fold in folds]
        outcomes = Counter(_compare(one["dev_uar"], other["dev_uar"]) for one, other in pairs)
        means = [f"{np.mean([pair[part]['dev_uar'] for pair in pairs]):.1f}" for part in (0, 1)]
        seconds = [f"{np.mean([pair[part]['seconds'] for pair in pairs]):.1f}" for part in (0, 1)]
        rows.append([name, *means, *(str(outcomes[key]) for key in ("better", "equal", "worse")), *seconds])
    header = ["strategy", "dev UAR", "of random", "better", "equal", "worse", "seconds", "of random"]
    print_table(f"Against random search, mean over {len(folds)} folds", header, rows)


def print_for_use(inputs: Inputs, data: LanguageData, strategy: str, use: dict[str, Any]) -> None:
    """Writes the structure for use and its picture beside the searches."""
    folder = inputs.search_folder(data)
    content = {"language": data.language, "fingerprint": data.fingerprint, "strategy": strategy}
    content |= {name: use[name] for name in ("genotype", "text", "dev_uar")}
    write_json(folder / f"{strategy}.json", content)
    write_text(folder / f"{strategy}.svg", genotype_picture(use["genotype"], data.language))
    console.print(f"For use, by {strategy}: {use['text']}")
    console.print(f"  {folder / f'{strategy}.json'}, {folder / f'{strategy}.svg'}", soft_wrap=True)


def _compare(value: float, other: float) -> str:
    return "equal" if abs(value - other) < 1e-9 else "better" if value > other else "worse"


def print_log(log: Log | None) -> None:
    """Where the curves lie that were asked for."""
    if log:
        console.print(f"Curves: tensorboard --logdir {log.target}", soft_wrap=True)


def print_audit(data: LanguageData) -> None:
    """What the language's folds leak."""
    report = data.audit
    said = "LEAKY" if report.leaky else "no speaker and no recording crosses a fold"
    console.print(
        f"Audit of {data.language} ({report.corpus}): {report.protocol}, {len(data.folds)} test folds, "
        f"{report.speakers} speakers, {report.utterances} utterances; {said}."
    )
    for message in report.messages:
        console.print(f"  {message}", style="yellow", markup=False, soft_wrap=True)

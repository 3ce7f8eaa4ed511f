"""The whole study from the stores: searches, all methods, the leaky split beside them, and the tables of the README.

python -m bench.study speed  --home WORK --language de    one program against one by one, pooled and frames
python -m bench.study run    --home WORK --language "de it en ur"    searches, trains and prints the tables
python -m bench.study tables --home WORK RUN [RUN_OF_THE_RANDOM_SPLIT]    the tables of finished runs
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.common import facts, ratio, table
from mser.config import Workspace, read_json
from mser.nas.search import STRATEGIES
from train.data import Features
from train.fit import FitSettings, fit, predict
from train.heads import domains_of, loaders_of, replica_of, shared_labels
from train.methods import METHODS
from train.search import loaded
from train.settings import Inputs, StudySettings

#: Methods of the study on the leaky split.
LEAKY_METHODS = ("logistic", "fixed", "fixed-multi", "shared-logistic")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "run", "tables"))
    parser.add_argument("runs", nargs="*", help="of tables: a run, and a run of the random split")
    parser.add_argument("--home", type=Path, default=Path("work"))
    parser.add_argument("--language", default="de it en ur")
    parser.add_argument("--upstreams", default="whisper-base-encoder acoustic")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, help="of speed; those of a study if not given")
    parser.add_argument("--folds", type=int, help="of speed; all if not given")
    parser.add_argument("--features", default="pooled frames", help="of speed")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_intermixed_args()


def main() -> None:
    given = arguments()
    if given.what == "speed":
        torch.set_num_threads(1)  # as every training of a study has it
        print(facts(given.device))
        for kind in given.features.split():
            speed(given, kind)
        return
    runs = list(given.runs) if given.what == "tables" else run(given)
    folders = [Workspace(given.home).reports / name for name in runs]
    print_tables([read_json(folder / "results.json") for folder in folders])


def speed(given: argparse.Namespace, kind: str) -> None:
    """All folds and seeds of the fixed head on one language: one by one, and as one program for each block of folds."""
    settings = StudySettings(features=Features(kind), fit=FitSettings(epochs=given.epochs, least_steps=1)
                             if given.epochs else FitSettings())  # fmt: skip
    inputs = Inputs(given.home, tuple(given.upstreams.split()), settings, given.device)
    method, language = METHODS["fixed"], given.language.split()[0]
    data = loaded(inputs, language)
    began = time.perf_counter()
    loaders = loaders_of(inputs, [data], method)
    population = {language: np.arange(len(data.utterances))}
    for number, fold in enumerate(data.folds):
        domains_of(inputs, method, [data], [fold])  # the probes are common to both ways
        print(f"\rprobes {number + 1} of {len(data.folds)}", end="", file=sys.stderr)
    ready = time.perf_counter() - began
    folds = data.folds[: given.folds]
    block = len(folds) if given.device.startswith("cuda") else settings.fold_block
    spent: dict[str, list[float]] = {"one by one": [], "together": []}
    said: dict[str, list[np.ndarray]] = {name: [] for name in spent}
    for start in range(0, len(folds), block):
        for way in spent:
            replicas = []
            for fold in folds[start : start + block]:
                domains = domains_of(inputs, method, [data], [fold])
                replicas += [replica_of(inputs, method, [data], [fold], domains, seed) for seed in range(given.seeds)]
            began = time.perf_counter()
            fit(replicas, loaders, population, settings.fit, shared_labels([data]), together=way == "together")
            spent[way].append(time.perf_counter() - began)
            rows = population[language]
            said[way] += [predict(one.model, language, loaders[language], rows)[0] for one in replicas]
    steps = len(folds) * given.seeds * _steps(settings.fit, len(data.utterances))
    agree = np.mean([np.mean(a.argmax(1) == b.argmax(1)) for a, b in zip(*said.values(), strict=True)])
    largest = max(float(np.abs(a - b).max()) for a, b in zip(*said.values(), strict=True))
    _, text = ratio(spent["one by one"], spent["together"])
    cells = [
        [way, f"{sum(own):.1f}", f"{1000 * sum(own) / steps:.2f}", text if way == "together" else "1"]
        for way, own in spent.items()
    ]
    title = (
        f"\n{kind}, {language}: {len(folds)} folds x {given.seeds} seeds of "
        f"{_steps(settings.fit, len(data.utterances))} steps, blocks of {block} folds, "
        f"loader placement {loaders[language].placement}; "
        f"reading states and probes took {ready:.1f} s before"
    )
    print(table(title, ["way", "seconds", "ms a replica-step", "times as fast"], cells))
    print(f"Predictions agree on {100 * agree:.2f} %, largest difference of a probability {largest:.1e}")


def _steps(settings: FitSettings, utterances: int) -> int:
    steps = -(-utterances // settings.batch_size)
    return steps * max(settings.epochs, -(-settings.least_steps // steps))


def run(given: argparse.Namespace) -> list[str]:
    """Searches and trains everything through the commands, as a user would; what is done already is not done again."""
    shared = ["--language", given.language, "--upstreams", given.upstreams, "--home", str(given.home)]
    shared += ["--device", given.device]
    seeds = ["--seeds", " ".join(map(str, range(given.seeds)))]
    strategies = " ".join(name for name in STRATEGIES)
    _command("search", *shared, "--strategies", strategies)
    _command("fit", *shared, *seeds, "--methods", "all", "--run", "study")
    leaky = ["--methods", " ".join(LEAKY_METHODS), "--protocol", "random-70-10-20", "--run", "study-random"]
    _command("fit", *shared, *seeds, *leaky)
    return ["study", "study-random"]


def _command(*words: str) -> None:
    began = time.perf_counter()
    print("$ python -m train", *words, flush=True)
    subprocess.run([sys.executable, "-m", "train", *words], check=True)
    print(f"({time.perf_counter() - began:.0f} s)", flush=True)


def print_tables(results: Sequence[Mapping[str, Any]]) -> None:
    """Markdown: every method, what leakage is worth, the searches, and the gates."""
    main_results = results[0]
    languages = [one["language"] for one in main_results["languages"]]
    print(f"\nUAR in percent on test speakers, mean ± deviation over seeds [95 % interval over speakers]; "
          f"Δ against logistic regression, p over speakers / utterances (Holm). {main_results['created'][:10]}\n"
    )  # fmt: skip
    found = {(one["language"], one["method"]): one for one in main_results["results"]}
    compared = {(one["language"], one["method"]): one for one in main_results["comparisons"]}
    _markdown(
        ["", *languages],
        [
            [
                _title(method),
                *(_cell(found[name, method["name"]], compared.get((name, method["name"]))) for name in languages),
            ]
            for method in main_results["methods"]
        ],
    )
    if len(results) > 1:
        print("\nThe same on random 70/10/20 splits, LEAKY: speakers are on both sides.\n")
        leaky = {(one["language"], one["method"]): one["uar"]["mean"] for one in results[1]["results"]}
        rows = []
        for method in results[1]["methods"]:
            name = method["name"]
            pairs = [(leaky[language, name], found[language, name]["uar"]["mean"]) for language in languages]
            rows.append([method["title"], *(f"{high:.1f} ({high - low:+.1f})" for high, low in pairs)])
        _markdown(["", *languages], rows)
    _pairs(main_results, languages)
    _searches(main_results, languages)
    _gates(main_results)


def _title(method: Mapping[str, Any]) -> str:
    return f"{method['title']} (transductive)" if method["transductive"] else str(method["title"])


def _cell(result: Mapping[str, Any], compared: Mapping[str, Any] | None) -> str:
    uar = result["uar"]
    spread = f" ± {uar['deviation']:.1f}" if len(result["per_seed"]) > 1 else ""
    text = f"{uar['mean']:.1f}{spread} [{uar['low']:.1f}, {uar['high']:.1f}]"
    if compared is None:
        return text
    return f"{text} {compared['difference']:+.1f}, p {compared['p_speakers']:.2g} / {compared['p_utterances']:.2g}"


def _pairs(results: Mapping[str, Any], languages: Sequence[str]) -> None:
    found = {(one["language"], one["method"], one["against"]): one for one in results.get("pairs", [])}
    titles = {one["name"]: one["title"] for one in results["methods"]}
    print("\nMethod against method: points of UAR, p over speakers / over utterances (Holm over these pairs)\n")
    rows = []
    for method, against in dict.fromkeys(key[1:] for key in found):
        each = [found[language, method, against] for language in languages]
        cells = [f"{one['difference']:+.1f}, p {one['p_speakers']:.2g} / {one['p_utterances']:.2g}" for one in each]
        rows.append([f"{titles[method]} − {titles[against]}", *cells])
    _markdown(["", *languages], rows)


def _searches(results: Mapping[str, Any], languages: Sequence[str]) -> None:
    print("\nDev UAR of each strategy, mean over test folds (better / equal / worse than the best of random search; "
          "seconds a fold, of random search)\n")  # fmt: skip
    names = list(dict.fromkeys(one["strategy"] for one in results["searches"]))
    rows = []
    for name in names:
        cells = []
        for language in languages:
            own = [one for one in results["searches"] if (one["language"], one["strategy"]) == (language, name)]
            gains = np.array([one["dev_uar"] - one["random"]["dev_uar"] for one in own])
            counts = "/".join(str(int(hits.sum())) for hits in (gains > 1e-9, abs(gains) <= 1e-9, gains < -1e-9))
            seconds = [np.mean([one["seconds"][part] for one in own]) for part in ("search", "random")]
            dev = np.mean([one["dev_uar"] for one in own])
            cells.append(f"{dev:.1f} ({counts}; {seconds[0]:.0f} s, {seconds[1]:.0f} s)")
        rows.append([name, *cells])
    _markdown(["", *languages], rows)


def _gates(results: Mapping[str, Any]) -> None:
    print("\nGate weights: mean, and the deviation over utterances of a fold, by expert\n")
    experts = results["gates"][0]["experts"]
    rows = []
    for one in results["gates"]:
        if one["method"] in ("gate-conditioned", "faithful"):
            # By name: a run that was gone on with may list its experts in another order.
            spread = {name: (m, d) for name, m, d in zip(one["experts"], one["mean"], one["deviation"], strict=True)}
            weights = [f"{m:.3f} ± {d:.3f}" for m, d in (spread[name] for name in experts)]
            rows.append([one["language"], one["method"], *weights])
    if rows:
        _markdown(["", "method", *experts], rows)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    for cells in (header, ["---"] * len(header), *rows):
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()

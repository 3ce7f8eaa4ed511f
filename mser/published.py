"""Splits that others published, as row numbers: by their rule, from facts shipped as data, or from their files."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mser.config import DATA_FOLDER, read_yaml
from mser.errors import ProtocolError
from mser.manifest import Utterance

SERAB_FILE = DATA_FOLDER / "folds" / "serab.yaml"
#: Test parts of the random split; each has a tenth of the utterances beside it for dev.
FIFTHS = 5
#: Names that a message shows of many.
EXAMPLES = 3
WAV_LINES = "a JSON object a line, each with a path named wav"


@dataclass(frozen=True)
class PublishedFold:
    """One fold of a published split.

    Attributes:
        name: can name files.
        train: rows that may be trained on, those of ``dev`` among them.
        test: rows that are tested. What is in neither is not used.
        dev: rows of ``train`` that were published for validation; None where none were.
    """

    name: str
    train: np.ndarray
    test: np.ndarray
    dev: np.ndarray | None


def random_fifths(utterances: Sequence[Utterance]) -> list[PublishedFold]:
    """Five random splits 70/10/20, with emotions in equal shares; each utterance is tested once.

    After the code of Wang et al. 2022 (arXiv 2211.08237), which draws one such split anew, without a seed and without
    regard to emotions. Speakers, texts and sessions are on all sides.

    Raises:
        ProtocolError: an emotion has too few utterances to be in every test part.
    """
    emotions = np.array([row.emotion for row in utterances])
    rare = {name: count for name, count in sorted(Counter(emotions.tolist()).items()) if count < FIFTHS}
    if rare or not len(emotions):
        raise ProtocolError(
            "Too few utterances of an emotion for a random split by emotion.",
            field="emotion",
            expected=f"{FIFTHS} utterances or more of each",
            found=", ".join(f"{name}: {count}" for name, count in rare.items()) or "no utterances",
            hint="leave the emotion out in the corpus definition (null), or use protocol speakers",
        )
    # Two tenths are a fifth, so that an emotion of five utterances is in each fifth.
    tenth = deal(emotions, 2 * FIFTHS)
    folds = []
    for number in range(FIFTHS):
        test, dev = tenth % FIFTHS == number, tenth == (number + 1) % FIFTHS
        folds.append(PublishedFold(f"fifth-{number}", np.flatnonzero(~test), np.flatnonzero(test), np.flatnonzero(dev)))
    return folds


def deal(emotions: np.ndarray, parts: int, seed: int = 0) -> np.ndarray:
    """Number (N,) of the part, 0 to ``parts`` - 1, of each utterance: at random, by emotion (N,) in equal shares.

    Shuffled rows are sorted by emotion and dealt like cards, so no part has two utterances more than another, of
    all or of any emotion; unlike stratified folds this also works for emotions with fewer utterances than parts.
    """
    order = np.random.default_rng(seed).permutation(len(emotions))
    order = order[np.argsort(emotions[order], kind="stable")]
    part = np.empty(len(emotions), int)
    part[order] = np.arange(len(emotions)) % parts
    return part


def serab(utterances: Sequence[Utterance]) -> list[PublishedFold]:
    """The one split by speaker of SERAB (arXiv 2110.03414); training includes validation, as in its last fit.

    Raises:
        ProtocolError: SERAB has no split of a corpus, or not of a speaker, or nothing is left of a part.
    """
    rules = read_yaml(SERAB_FILE)
    return _joined(utterances, lambda corpus, rows: [_serab_fold(utterances, rows, corpus, rules)])


def _serab_fold(
    utterances: Sequence[Utterance], rows: np.ndarray, corpus: str, rules: dict[str, dict[str, list[str]]]
) -> PublishedFold:
    if corpus not in rules:
        raise ProtocolError(
            "SERAB's split of this corpus is not known.",
            file=SERAB_FILE,
            field="corpus",
            expected=f"one of {', '.join(sorted(rules))}",
            found=corpus,
            hint="use another protocol for its language",
        )
    part_of = {speaker: part for part, speakers in rules[corpus].items() for speaker in speakers}
    unknown = sorted({utterances[row].speaker for row in rows} - set(part_of))
    if unknown:
        raise ProtocolError(
            f"SERAB's split of {corpus} does not name a speaker.",
            file=SERAB_FILE,
            field="speaker",
            expected=", ".join(sorted(part_of)),
            found=", ".join(unknown),
            hint="name speakers in the corpus definition as the recordings do",
        )
    parts = np.array([part_of[utterances[row].speaker] for row in rows])
    absent = [part for part in rules[corpus] if part not in parts]
    if absent:
        raise ProtocolError(
            f"No recording is left of a part of SERAB's split of {corpus}.",
            field="speaker",
            expected="; ".join(f"{part}: {', '.join(rules[corpus][part])}" for part in absent),
            found=", ".join(sorted({utterances[row].speaker for row in rows})),
            hint="use a complete copy of the corpus",
        )
    return PublishedFold("serab", rows[parts != "test"], rows[parts == "test"], rows[parts == "validation"])


def emobox(utterances: Sequence[Utterance], folder: Path | None) -> list[PublishedFold]:
    """The folds of EmoBox (Ma et al. 2024, arXiv 2406.07162), from the files of its project.

    Recordings are found again by their names, and by the names of folders above where names repeat.

    Args:
        folder: a copy of the project, or its folder ``data``, which holds
            ``<corpus>/fold_<k>/<corpus>_train_fold_<k>.jsonl``, ``..._test_...`` and for some ``..._valid_...``.

    Raises:
        ProtocolError: files are missing or damaged, or list recordings that are not among the utterances.
    """
    if folder is None or not folder.is_dir():
        raise ProtocolError(
            "The fold files of EmoBox are not there; they are not part of mser.",
            file=folder,
            field="published",
            expected="the folder data of a copy of the EmoBox project (https://github.com/emo-box/EmoBox)",
            found="no folder" if folder else None,
            hint="get the project, and give its folder",
        )
    root = folder / "data" if (folder / "data").is_dir() else folder
    return _joined(utterances, lambda corpus, rows: _emobox_folds(utterances, rows, root / corpus))


def _emobox_folds(utterances: Sequence[Utterance], rows: np.ndarray, folder: Path) -> list[PublishedFold]:
    listed = emobox_lists(folder)
    names = sorted({name for parts in listed.values() for part in parts.values() for name in part})
    row_of = _match(utterances, rows, names, folder)
    return [_emobox_fold(number, parts, row_of, folder) for number, parts in listed.items()]


def emobox_lists(folder: Path) -> dict[int, dict[str, list[str]]]:
    """The audio paths that EmoBox lists for a corpus: fold -> part (``train``, ``test``, for some ``valid``) -> paths.

    Raises:
        ProtocolError: there are no folds, or a file is missing or damaged.
    """
    corpus = folder.name
    found = [path for path in folder.glob("fold_*") if re.fullmatch(r"fold_\d+", path.name) and path.is_dir()]
    numbers = sorted(int(path.name.removeprefix("fold_")) for path in found)
    if not numbers:
        raise ProtocolError(
            f"EmoBox has no folds of {corpus} there.",
            file=folder,
            expected="folders fold_1, fold_2 and so on",
            found=", ".join(sorted(path.name for path in folder.glob("*"))[:EXAMPLES]) or "nothing",
            hint="use another protocol for its language, or give the folder data of the whole project",
        )
    listed: dict[int, dict[str, list[str]]] = {}
    for number in numbers:
        places = {part: folder / f"fold_{number}/{corpus}_{part}_fold_{number}.jsonl" for part in ("train", "test")}
        valid = folder / f"fold_{number}/{corpus}_valid_fold_{number}.jsonl"
        listed[number] = {part: _listed(path) for part, path in places.items()}
        listed[number] |= {"valid": _listed(valid)} if valid.exists() else {}
    return listed


def _emobox_fold(number: int, parts: dict[str, list[str]], row_of: dict[str, int], folder: Path) -> PublishedFold:
    names = [name for part in parts.values() for name in part]
    taken = Counter(row_of[name] for name in names)
    twice = [name for name in names if taken[row_of[name]] > 1]
    if twice:
        raise ProtocolError(
            "A fold of EmoBox lists an utterance twice.",
            file=folder / f"fold_{number}",
            expected="each utterance once, in training or in the test",
            found=f"{len(twice)} such names, first {', '.join(twice[:EXAMPLES])}",
            hint="get the files anew; or the copy of the corpus is incomplete, so that other names fit too",
        )
    rows = {part: np.array(sorted(row_of[name] for name in listed), int) for part, listed in parts.items()}
    train = np.union1d(rows["train"], rows.get("valid", rows["train"]))
    return PublishedFold(f"fold-{number}", train, rows["test"], rows.get("valid"))


def _listed(path: Path) -> list[str]:
    """The audio paths that a fold file lists, one JSON object a line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        found = [json.loads(line)["wav"] for line in lines if line.strip()]
    except OSError as error:
        raise ProtocolError("A fold file of EmoBox could not be read.", file=path, found=error.strerror) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ProtocolError(
            "A fold file of EmoBox is damaged.", file=path, field="wav", expected=WAV_LINES, found=repr(error)
        ) from error
    if not found or not all(isinstance(name, str) for name in found):
        raise ProtocolError("A fold file of EmoBox lists no recordings.", file=path, field="wav", expected=WAV_LINES)
    return found


def _match(utterances: Sequence[Utterance], rows: np.ndarray, names: Sequence[str], folder: Path) -> dict[str, int]:
    """The row of each published path.

    EmoBox joins folder and name where names repeat (``JE_n23`` for ``JE/n23``), so the signs between the parts of a
    path do not count, and an utterance fits a path that ends in its name, or in as many of its folders and its name as
    set it apart in its corpus.
    """
    own = [utterances[row].utterance_id.split("/")[1:] for row in rows]
    depth = 1
    while len({tuple(path[-depth:]) for path in own}) < len(own):
        depth += 1
    row_of = {_words("/".join(path[-depth:])): int(row) for path, row in zip(own, rows, strict=True)}
    found: dict[str, int] = {}
    for name in names:
        words = _words(name.rpartition(".")[0])
        fits = (row_of.get(words[start:]) for start in range(len(words)))
        row = next((row for row in fits if row is not None), None)
        if row is not None:
            found[name] = row
    absent = [name for name in names if name not in found]
    if absent:
        raise ProtocolError(
            f"{len(absent)} of the {len(names)} recordings that EmoBox lists are not among the utterances.",
            file=folder,
            field="wav",
            expected=f"names such as {utterances[rows[0]].path}",
            found=f"first {', '.join(absent[:EXAMPLES])}",
            hint="use a complete copy of the corpus; what was rejected stands in manifests/<corpus>.rejected.csv",
        )
    return found


def _words(path: str) -> tuple[str, ...]:
    return tuple(re.split(r"[/_-]", path))


def _joined(
    utterances: Sequence[Utterance], folds_of: Callable[[str, np.ndarray], list[PublishedFold]]
) -> list[PublishedFold]:
    """Folds of a language: those of its corpora with the same number, joined."""
    corpus_of = np.array([row.corpus for row in utterances])
    by_corpus = {str(name): folds_of(str(name), np.flatnonzero(corpus_of == name)) for name in np.unique(corpus_of)}
    counts = {name: len(folds) for name, folds in by_corpus.items()}
    if len(set(counts.values())) != 1:
        raise ProtocolError(
            "The corpora of the language are published with different numbers of folds.",
            field="corpus",
            expected="one corpus, or as many folds of each",
            found=", ".join(f"{name}: {count}" for name, count in counts.items()) or "no utterances",
            hint="make manifests of one corpus, or use protocol speakers",
        )
    return [_join(parts) for parts in zip(*by_corpus.values(), strict=True)]


def _join(parts: Sequence[PublishedFold]) -> PublishedFold:
    dev = [part.dev for part in parts if part.dev is not None]
    return PublishedFold(
        parts[0].name,
        np.sort(np.concatenate([part.train for part in parts])),
        np.sort(np.concatenate([part.test for part in parts])),
        np.sort(np.concatenate(dev)) if len(dev) == len(parts) else None,
    )

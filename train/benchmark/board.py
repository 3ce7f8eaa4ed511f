"""The content of a leaderboard, read by protocol, cell and system."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mser.errors import RunError
from mser.mapping import EMOTIONS
from train.report.study import MISSING, Study, is_number, number, spread
from train.report.study import SCHEMA_VERSION as STUDY_VERSION
from train.report.verdict import BEATS, LEVEL, LOSES, TIES

SCHEMA_VERSION = 1
# The words of train.systems.task, whose import would load torch: a page needs no model.
WITHIN, ZERO_SHOT, FEW_SHOT = "within", "zero-shot", "few-shot"
#: Beside systems that use unlabelled utterances of the target, and scores that the paper's way would report.
ADAPTS, ON_TEST, FAILED = "adapts", "chosen on test", "failed"
#: What a p-value that shows a difference was taken over: new speakers, or new utterances of these very speakers.
SPEAKERS, UTTERANCES = "speakers", "utterances"


@dataclass(frozen=True, order=True)
class Setting:
    """What one table shows.

    Attributes:
        k: labelled utterances of each emotion, 0 but for ``few-shot``.
    """

    protocol: str
    labels: str = EMOTIONS
    k: int = 0

    @property
    def title(self) -> str:
        """
        >>> Setting("few-shot", k=5).title, Setting("zero-shot", "valence").title
        ('few-shot, k = 5', 'zero-shot, valence')
        """
        shown = f"{self.protocol}, k = {self.k}" if self.protocol == FEW_SHOT else self.protocol
        return shown if self.labels == EMOTIONS else f"{shown}, {self.labels}"

    @property
    def places(self) -> str:
        return "languages" if self.protocol == WITHIN else "pairs"


def setting_of(entry: Mapping[str, Any]) -> Setting:
    """Of a cell, or of an entry of ``summary`` or ``ideas``."""
    return Setting(entry["protocol"], entry["labels"], entry["k"])


@dataclass(frozen=True)
class Board:
    """Read access to a leaderboard's content.

    Raises:
        RunError: the content is of another schema.
    """

    content: Mapping[str, Any]

    def __post_init__(self) -> None:
        found = self.content.get("schema_version")
        if found != SCHEMA_VERSION:
            raise RunError(
                "The leaderboard is of another schema.", field="schema_version", expected=SCHEMA_VERSION, found=found,
                hint="run the benchmark again: what is computed is kept",
            )  # fmt: skip

    @cached_property
    def study(self) -> Study:
        """The languages, as the marks and the audit of a report read them."""
        languages = [
            {**entry, "protocol": (entry.get("audit") or {}).get("protocol", MISSING)}
            for entry in self.content.get("languages", [])
        ]
        return Study({"schema_version": STUDY_VERSION, "languages": languages})

    @cached_property
    def labels(self) -> dict[str, Mapping[str, Any]]:
        """The label sets by name; the first is asked under every protocol, the others across languages."""
        return {entry["name"]: entry for entry in self.content.get("labels", [])}

    @property
    def first(self) -> str:
        """The name of the label set that is asked under every protocol."""
        return next(iter(self.labels), EMOTIONS)

    @cached_property
    def systems(self) -> dict[str, Mapping[str, Any]]:
        return {entry["name"]: entry for entry in self.content.get("systems", [])}

    @cached_property
    def settings(self) -> dict[Setting, list[Mapping[str, Any]]]:
        """The cells of each setting, in the given order."""
        found: dict[Setting, list[Mapping[str, Any]]] = {}
        for cell in self.content.get("cells", []):
            found.setdefault(setting_of(cell), []).append(cell)
        return found

    def few_shot(self, labels: str) -> list[Setting]:
        """The few-shot settings of a label set, by k; before them zero-shot, which is k = 0, where both were run."""
        found = sorted(one for one in self.settings if (one.protocol, one.labels) == (FEW_SHOT, labels))
        zero = Setting(ZERO_SHOT, labels)
        return [zero, *found] if found and zero in self.settings else found

    @cached_property
    def means(self) -> dict[tuple[Setting, str], Mapping[str, Any]]:
        """The entries of ``summary`` by setting and system."""
        return {(setting_of(entry), entry["system"]): entry for entry in self.content.get("summary", [])}

    def mean(self, setting: Setting, system: str, field: str = "uar", whole: bool = True) -> float | None:
        """A system's mean over the cells of a setting.

        Args:
            whole: only where every cell has a score: means over other cells do not compare.
        """
        entry = self.means.get((setting, system), {})
        value = entry.get(field)
        if not is_number(value) or (whole and entry["cells"] < entry["of"]):
            return None
        return value

    def best_mean(self, setting: Setting, field: str) -> float | None:
        """The highest mean UAR, or the lowest mean rank, of the systems that have every cell."""
        found = [self.mean(setting, name, field) for one, name in self.means if one == setting]
        known = [value for value in found if value is not None]
        return (max if field == "uar" else min)(known, default=None)

    def title(self, system: str) -> str:
        return str(self.systems.get(system, {}).get("title") or system)

    def adapts(self, system: str) -> bool:
        """Whether a system uses unlabelled utterances of the target."""
        return bool(self.systems.get(system, {}).get("adapts"))

    @property
    def bar(self) -> str:
        return str(self.content.get("bar") or "")

    def asked(self, cells: Iterable[Mapping[str, Any]]) -> list[str]:
        """The systems that have, should have had, or will have a score in one of the cells, in the systems' order."""
        found: dict[str, None] = {}
        for cell in cells:
            named = [entry["system"] for part in ("results", "failed") for entry in cell.get(part, [])]
            found |= dict.fromkeys([*named, *cell.get("missing", [])])
        return [name for name in self.systems if name in found] + [name for name in found if name not in self.systems]

    def leaks(self, setting: Setting) -> bool:
        """Whether a mean over the setting's cells has a part that leaks."""
        return any(self.leaky(cell) for cell in self.settings.get(setting, []))

    def leaky(self, cell: Mapping[str, Any]) -> bool:
        """Whether the cell's folds leak. Across languages none are used: source and target share no recording."""
        return cell["protocol"] == WITHIN and self.study.leaky(cell["source"])


def result_of(cell: Mapping[str, Any], system: str) -> Mapping[str, Any] | None:
    return next((entry for entry in cell.get("results", []) if entry["system"] == system), None)


def has_failed(cell: Mapping[str, Any], system: str) -> bool:
    return any(entry["system"] == system for entry in cell.get("failed", []))


def place(cell: Mapping[str, Any], arrow: str = ">") -> str:
    """
    >>> place({"source": "de", "target": "it"}), place({"source": "de", "target": "de"})
    ('de>it', 'de')
    """
    return cell["source"] if cell["source"] == cell["target"] else f"{cell['source']}{arrow}{cell['target']}"


def share_tested(cell: Mapping[str, Any]) -> str:
    """
    >>> share_tested({"tested": 504, "utterances": 588}), share_tested({"tested": 588, "utterances": 588})
    ('504 of 588', '588')
    """
    every = cell.get("utterances", MISSING)
    return str(every) if cell["tested"] == every else f"{cell['tested']} of {every}"


def best(cell: Mapping[str, Any]) -> float | None:
    """The highest mean UAR of a cell."""
    return max((entry["uar"]["mean"] for entry in cell.get("results", []) if is_number(entry["uar"]["mean"])),
               default=None)  # fmt: skip


def written(summary: Mapping[str, Any], seeds: int) -> str:
    """Mean and deviation; the mean alone of a single seed, whose deviation would say that several agree.

    >>> written({"mean": 93.04, "deviation": 0.41}, 5), written({"mean": 93.04, "deviation": 0.0}, 1)
    ('93.0 ± 0.4', '93.0')
    """
    return spread(summary) if seeds > 1 else number(summary.get("mean"))


def outcome(test: Mapping[str, Any] | None) -> tuple[str, str]:
    """What a paired test says of the first system, and over what; a tie where it shows nothing.

    >>> outcome({"difference": 4.2, "p_speakers": 0.05, "p_utterances": 0.001})
    ('beats', 'speakers')
    >>> outcome({"difference": -4.2, "p_speakers": 0.06, "p_utterances": 0.001})
    ('loses to', 'utterances')
    """
    if test is None or not is_number(test.get("difference")) or test["difference"] == 0:
        return TIES, ""
    for unit in (SPEAKERS, UTTERANCES):
        p = test.get(f"p_{unit}")
        if is_number(p) and p <= LEVEL:
            return (BEATS if test["difference"] > 0 else LOSES), unit
    return TIES, ""

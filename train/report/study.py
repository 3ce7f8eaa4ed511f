"""The results of one run, by language and method."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from mser.calibration import at_bound
from mser.errors import RunError

SCHEMA_VERSION = 2
#: The scores of a result, and the name each has for readers.
METRICS = {"uar": "UAR", "wa": "WA", "macro_f1": "macro-F1"}
#: What stands where a number is missing.
MISSING = "–"
#: What stands beside numbers that do not rank with the others.
LEAKY, TRANSDUCTIVE = "LEAKY", "transductive"
#: Search strategies that a method of another name trains.
METHOD_OF = {"beta": "searched"}


@dataclass(frozen=True)
class Study:
    """Read access to what ``train.evaluate`` found.

    Attributes:
        content: the results, as they are written to ``results.json``.
    """

    content: Mapping[str, Any]

    def __post_init__(self) -> None:
        found = self.content.get("schema_version")
        if found != SCHEMA_VERSION:
            raise RunError(
                "The results are of another schema.", field="schema_version", expected=SCHEMA_VERSION, found=found,
                hint="evaluate the run again",
            )  # fmt: skip

    @property
    def languages(self) -> list[dict[str, Any]]:
        return list(self.content.get("languages", []))

    @property
    def methods(self) -> list[str]:
        """Names of the methods, in the order of the table; those that only results name come last."""
        named = [method["name"] for method in self.content.get("methods", [])]
        return list(dict.fromkeys([*named, *(result["method"] for result in self.content.get("results", []))]))

    def title(self, method: str) -> str:
        titles = {entry["name"]: entry.get("title") for entry in self.content.get("methods", [])}
        return titles.get(method) or method

    def strategy_title(self, strategy: str) -> str:
        """What readers know a search strategy by: the title of the method that trains its structures."""
        method = METHOD_OF.get(strategy, strategy)
        return self.title(method) if method == strategy else f"{self.title(method)} ({strategy})"

    def leaky(self, language: str) -> bool:
        """Whether test speakers or test recordings of a language are in training."""
        found = [entry for entry in self.languages if entry["language"] == language]
        return any(bool((entry.get("audit") or {}).get("leaky")) for entry in found)

    def transductive(self, method: str) -> bool:
        """Whether a method uses the test speaker's unlabelled utterances together."""
        methods = self.content.get("methods", [])
        return any(bool(entry.get("transductive")) for entry in methods if entry["name"] == method)

    def result(self, language: str, method: str) -> dict[str, Any] | None:
        for result in self.content.get("results", []):
            if (result["language"], result["method"]) == (language, method):
                return dict(result)
        return None

    def results(self, language: str) -> dict[str, dict[str, Any]]:
        """The results of a language by method, in the order of the table."""
        found = {method: self.result(language, method) for method in self.methods}
        return {method: result for method, result in found.items() if result is not None}

    def of_language(self, part: str, language: str) -> list[dict[str, Any]]:
        """The entries of a part (``gates``, ``searches``, ``comparisons`` and so on) that belong to a language."""
        return [entry for entry in self.content.get(part, []) if entry.get("language") == language]

    def nested_searches(self, language: dict[str, Any]) -> list[dict[str, Any]]:
        """The searches of a language's test folds, without one made on all speakers for a model to be used."""
        folds = {fold["name"] for fold in language.get("folds", [])}
        searches = self.of_language("searches", language["language"])
        return [search for search in searches if not folds or search["fold"] in folds]

    def searches_by_strategy(self, language: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
        """The searches of a language's test folds, a list for each strategy with a supernet."""
        found: dict[str, list[dict[str, Any]]] = {}
        for search in self.nested_searches(language):
            found.setdefault(search["strategy"], []).append(search)
        return found


def is_number(value: object) -> TypeGuard[float]:
    """Whether the value can be written as a number: no text, no None, not NaN.

    >>> is_number(3), is_number(None), is_number(float("nan"))
    (True, False, False)
    """
    return isinstance(value, int | float) and not isinstance(value, bool) and not math.isnan(value)


def number(value: Any, digits: int = 1) -> str:
    """A number with so many decimals, or a dash where there is none.

    >>> number(93.04), number(0.1234, 3), number(None)
    ('93.0', '0.123', '–')
    """
    return f"{value:.{digits}f}" if is_number(value) else MISSING


def degrees(value: Any) -> str:
    """A temperature, marked where a fit ended at the last one that is tried: it says little then.

    >>> degrees(1.5), degrees(0.0500003), degrees(None)
    ('1.50', '0.05 (the coldest tried)', '–')
    """
    if not is_number(value) or not at_bound(value):
        return number(value, 2)
    return f"{number(value, 2)} (the {'coldest' if value < 1 else 'warmest'} tried)"


def probability(value: Any) -> str:
    """A p-value, short: at most three decimals.

    >>> [probability(p) for p in (0.0312, 0.03, 0.125, 0.00002, 1.0, None)]
    ['.031', '.03', '.125', '<.001', '1', '–']
    """
    if not is_number(value):
        return MISSING
    if value < 0.001:
        return "<.001"
    return f"{value:.3f}".removeprefix("0").rstrip("0").rstrip(".")


def spread(summary: Mapping[str, Any] | None, digits: int = 1) -> str:
    """Mean and deviation.

    >>> spread({"mean": 93.04, "deviation": 0.41})
    '93.0 ± 0.4'
    """
    summary = summary or {}
    return f"{number(summary.get('mean'), digits)} ± {number(summary.get('deviation'), digits)}"


def bounds(summary: Mapping[str, Any] | None) -> str:
    """The 95 % interval.

    >>> bounds({"low": 90.1, "high": 95.2})
    '[90.1, 95.2]'
    """
    summary = summary or {}
    return f"[{number(summary.get('low'))}, {number(summary.get('high'))}]"


def short(text: object, letters: int) -> str:
    """The text, or its beginning where it is longer than so many letters.

    >>> short("whisper", 7), short("whisper-base", 8)
    ('whisper', 'whisper…')
    """
    written = str(text)
    return written if len(written) <= letters else f"{written[: letters - 1]}…"


def duration(seconds: Any) -> str:
    """Seconds as a reader says them.

    >>> duration(0.25), duration(12.34), duration(754), duration(7260)
    ('0.2 s', '12.3 s', '12 min 34 s', '2 h 1 min')
    """
    if not is_number(seconds):
        return MISSING
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"

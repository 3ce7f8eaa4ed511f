"""Marks beside languages and methods whose numbers do not rank with the others."""

from __future__ import annotations

from mser.markup import Markup, element, join
from train.report.study import LEAKY, TRANSDUCTIVE, Study

#: What each mark means, for readers.
MEANINGS = {
    LEAKY: "test speakers or test recordings are in training, so a score is too high and does not compare with "
    "speaker-independent ones",
    TRANSDUCTIVE: "uses the test speaker's unlabelled utterances together, which is another task: it is not ranked "
    "with the others",
}


def language_mark(study: Study, language: str) -> Markup:
    """The language, with a badge where its protocol leaks."""
    return _marked(language, LEAKY if study.leaky(language) else "")


def method_mark(study: Study, method: str, name: str = "") -> Markup:
    """The method's title (or another name), with a badge where it is transductive."""
    return _marked(name or study.title(method), TRANSDUCTIVE if study.transductive(method) else "")


def language_text(study: Study, language: str) -> str:
    """As :func:`language_mark`, as plain text."""
    return f"{language} {LEAKY}" if study.leaky(language) else language


def method_text(study: Study, method: str) -> str:
    """The method's short name, with a mark where it is transductive, as plain text."""
    return f"{method} ({TRANSDUCTIVE})" if study.transductive(method) else method


def warnings(study: Study) -> list[str]:
    """A sentence for each mark that the page bears."""
    leaky = [entry for entry in study.languages if study.leaky(entry["language"])]
    places = ", ".join(f"{entry['language']}: {entry.get('protocol')}" for entry in leaky)
    methods = ", ".join(study.title(method) for method in study.methods if study.transductive(method))
    return [f"{mark} ({names}): {MEANINGS[mark]}." for mark, names in ((LEAKY, places), (TRANSDUCTIVE, methods))
            if names]  # fmt: skip


def _marked(text: str, mark: str) -> Markup:
    if not mark:
        return join([text])
    badge = element("span", mark, css=f"badge {mark.lower()}", attributes={"title": MEANINGS[mark]})
    return join([text, " ", badge])

"""The catalogue: the list and what chooses from it, one corpus in full, and the page."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mser.cli import main
from mser.corpora import CorpusDefinition, load_definitions
from mser.corpora.describe import COLUMNS, Wanted, defects_of, emotions_of, find, in_order, sheet
from mser.corpora.page import MARKER, catalogue, with_catalogue
from mser.errors import ConfigError

PAGE = Path(__file__).resolve().parents[1] / "docs" / "corpora.md"
OWN = """\
name: {name}
title: Zebra speech
language: cy
speech: acted
licence: CC0-1.0
access: direct
page: https://example.org/zebra
citation: A. Author 2020.
get: {get}
aliases: [ZebraSpeech]
pattern: '(?P<speaker>[fm]\\d)_(?P<emotion>[a-z]+)'
emotions: {{ang: anger, bor: boredom, oth: null}}
speakers: {{f1: {{gender: female}}}}
expected: {{utterances: 12, speakers: 1, emotions: {{anger: 6, boredom: 6}}}}
examples:
  f1_ang.wav: {{speaker: f1, emotion: anger}}
defects:
  - {{kind: one-speaker, note: 'A | single voice'}}
downloads:
  - {{url: 'https://example.org/zebra.zip', bytes: 2500000, md5: 0123456789abcdef0123456789abcdef}}
"""


@cache
def shipped() -> dict[str, CorpusDefinition]:
    return load_definitions()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "zebra.yaml").write_text(OWN.format(name="zebra", get="ask the zebra"), encoding="utf-8")
    return folder


def run(*arguments: object) -> Result:
    given = ["corpora", *map(str, arguments)]
    return CliRunner().invoke(main, given, env={"MSER_DEFINITIONS": None, "MSER_CORPORA": None})


def listed(tmp_path: Path, *arguments: object) -> list[dict[str, str]]:
    """The rows of a listing, read back from CSV."""
    file = tmp_path / "list.csv"
    found = run(*arguments, "--csv", file, "--corpora", tmp_path / "corpora")
    assert found.exit_code == 0, found.output
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_plain_command_lists_every_corpus_the_demos_last(tmp_path: Path) -> None:
    (tmp_path / "corpora" / "emodb").mkdir(parents=True)
    rows = listed(tmp_path)
    names = [row["name"] for row in rows]
    assert set(names) == set(shipped())
    assert names[-3:] == ["demo_de", "demo_en", "demo_it"]
    assert list(rows[0]) == COLUMNS
    by_name = {row["name"]: row for row in rows}
    assert [name for name, row in by_name.items() if row["there"]] == ["emodb"]
    emodb = by_name["emodb"]
    assert emodb["emotions"] == "anger boredom disgust fear happiness neutral sadness"
    assert (emodb["language"], emodb["speakers"], emodb["utterances"]) == ("de", "10", "535")
    found = run("--language", "de", "--corpora", tmp_path / "corpora")
    assert "7: ang bor dis" in found.output
    assert "de German" in found.output


def test_what_is_asked_for_chooses(tmp_path: Path) -> None:
    (tmp_path / "corpora" / "emovo").mkdir(parents=True)
    names = {
        option: {row["name"] for row in listed(tmp_path, *option.split("="))}
        for option in ("--language=de it", "--emotion=boredom neutral", "--access=direct", "--speech=acted,elicited",
                       "--defect=text-label", "--search=berlin", "--search=italian acted", "--there")
    }  # fmt: skip
    of = shipped().values()
    assert names["--language=de it"] == {one.name for one in of if one.language in ("de", "it")}
    assert names["--emotion=boredom neutral"] == {
        one.name for one in of if {"boredom", "neutral"} <= set(one.emotions.values())
    }
    assert names["--access=direct"] == {one.name for one in of if one.access == "direct"}
    assert names["--speech=acted,elicited"] == {one.name for one in of if one.speech in ("acted", "elicited")}
    assert names["--defect=text-label"] == {one.name for one in of if "text-label" in defects_of(one)}
    assert names["--search=berlin"] == {"emodb"}
    assert names["--there"] == {"emovo"}


def test_nothing_that_fits_says_what_to_do(tmp_path: Path) -> None:
    found = run("--search", "klingon", "--corpora", tmp_path)
    assert found.exit_code == 0
    assert "mser corpora new FOLDER" in found.output


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--language", "deu", "German is written de"),
        ("--emotion", "boredum", "did you mean boredom?"),
        ("--access", "free", "direct account form paid"),
        ("--speech", "sung", "acted elicited"),
        ("--defect", "bad", "text-label"),
    ],
)
def test_what_no_corpus_can_have_is_refused(option: str, value: str, words: str) -> None:
    found = run(option, value)
    assert found.exit_code == 1
    assert option in found.output
    assert words in found.output


def test_one_corpus_is_shown_in_full_also_by_an_alias(own: Path) -> None:
    found = run("show", "zebraspeech", "--definitions", own)
    assert found.exit_code == 0, found.output
    for words in ("zebra: Zebra speech", "cy (Welsh)", "A. Author 2020.", "ask the zebra", "CC0-1.0", "2.5 MB",
                  "(?P<speaker>", "f1_ang.wav: speaker f1, emotion anger", "oth left out", "f1 female", "12 utterances",
                  "one-speaker", "A | single voice", "https://example.org/zebra", "not there"):  # fmt: skip
        assert words in found.output, words


def test_every_shipped_corpus_can_be_shown(tmp_path: Path) -> None:
    for one in shipped().values():
        lines = list(sheet(one, tmp_path))
        assert lines[0] == f"{one.name}: {one.title}"
        assert any(one.citation.strip() in line for line in lines)


def test_an_unknown_name_suggests_near_ones() -> None:
    found = run("show", "emobd")
    assert found.exit_code == 1
    assert "emodb" in found.output
    with pytest.raises(ConfigError, match="savee"):
        find("save", shipped())
    with pytest.raises(ConfigError, match="mser corpora --search"):
        find("qqqqqqqq", shipped())


def test_corpora_of_one_alias_are_all_found(own: Path) -> None:
    (own / "zebra2.yaml").write_text(OWN.format(name="zebra2", get="x"), encoding="utf-8")
    found = find("ZebraSpeech", load_definitions(own))
    assert [one.name for one in found] == ["zebra", "zebra2"]


def test_a_broken_definition_ends_the_list_with_a_message(own: Path) -> None:
    (own / "bad.yaml").write_text("name: bad\n", encoding="utf-8")
    found = run("--definitions", own)
    assert found.exit_code == 1
    assert "bad.yaml" in found.output


def test_the_page_keeps_what_stands_above_the_marker(tmp_path: Path, own: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Mine\n\nBy hand.\n\n{MARKER}\n\nFormer text.\n", encoding="utf-8")
    for _ in range(2):
        assert run("page", page, "--definitions", own).exit_code == 0
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# Mine\n\nBy hand.\n\n{MARKER}\n\n")
        assert "Former text." not in text
        assert text.count(MARKER) == 1
    assert "### Welsh (cy)" in text
    assert "[`zebra`](https://example.org/zebra) Zebra speech" in text
    assert r"one-speaker: A \| single voice" in text
    assert run("page", tmp_path / "new.md").exit_code == 0
    assert (tmp_path / "new.md").read_text(encoding="utf-8").startswith(f"# Corpora\n\n{MARKER}\n")


@pytest.mark.parametrize("arguments", [("--csv",), ("page",), ("new", "clips", "--out")])
def test_a_file_that_cannot_be_written_is_named(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "afile").touch()
    for number in range(6):
        clip = tmp_path / "clips" / f"s{number % 3}" / ("Wut", "Freude")[number % 2] / f"{number}.wav"
        clip.parent.mkdir(parents=True, exist_ok=True)
        clip.touch()
    given = [tmp_path / one if one == "clips" else one for one in arguments]
    target = tmp_path / "afile" / "deeper" / "x.yaml"
    found = run(*given, target)
    assert (found.exit_code, type(found.exception)) == (1, SystemExit), found.output
    for words in ("A file cannot be written.", f"{target}\n", f"{tmp_path / 'afile'}", "next: "):
        assert words in found.output
    assert (tmp_path / "afile").read_bytes() == b""


def test_the_catalogue_counts_and_leaves_the_demos_out() -> None:
    known = shipped()
    text = catalogue(known.values())
    assert text == catalogue(reversed(list(known.values())))
    real = [one for one in known.values() if not one.name.startswith("demo_")]
    total = sum(one.expected.get("utterances", 0) for one in real)
    languages = {one.language for one in real}
    assert text.startswith(f"{len(real)} definitions, {len(languages)} languages, {total:,} utterances published")
    assert "demo_de" not in text
    assert all(f"`{one.name}`" in text for one in real)


def test_the_page_of_corpora_is_what_the_command_makes() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == with_catalogue(text, shipped().values()), "run `mser corpora page docs/corpora.md`"


def test_emotions_and_order_are_those_of_the_labels_and_languages() -> None:
    assert emotions_of(shipped()["emodb"])[:2] == ["anger", "boredom"]
    ordered = [one.name for one in in_order(shipped().values())]
    assert ordered.index("emodb") < ordered.index("emovo") < ordered.index("demo_de")
    assert Wanted().admits(shipped()["emodb"], Path("nowhere"))

"""Files that a record of an archive lists: what is read of its answer, what is refused, and what is asked at all."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import TINY_DEFINITION
from file_server import Server
from test_download import (
    QUICK,
    command,
    corpus,
    define,
    folders,
    happened,
    listed,
    run,
    server,
    tree,
    zipped,
)

from extract.download import record
from extract.download.place import MARKER
from extract.download.record import files_of
from extract.download.wanted import Record, Wanted
from mser.corpora import CorpusDefinition, load_definitions
from mser.errors import ConfigError, CorpusError

__all__ = ["folders", "server"]

Files = dict[str, bytes]
ARCHIVE = zipped({"f1/a.wav": b"a"})


@pytest.fixture(autouse=True)
def archives(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    bases = {"zenodo": server.url("api/records"), "figshare": server.url("v2/articles")}
    monkeypatch.setattr(record, "BASES", bases)


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def answer(server: Server, path: str, content: Any, **how: Any) -> None:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    server.serve(path, data, **{"kind": "application/json", **how})


def older(server: Server, files: Files) -> dict[str, Any]:
    """A record as the archive tells it by default."""
    return {
        "id": 77,
        "files": [
            {
                "id": "0",
                "key": name,
                "size": len(content),
                "checksum": f"md5:{md5(content)}",
                "links": {"self": server.serve(f"api/records/77/files/{number}/content", content).url},
            }
            for number, (name, content) in enumerate(files.items())
        ],
    }


def entries(server: Server, files: Files) -> dict[str, Any]:
    """The same in InvenioRDM's own form: by name, and self is no file."""
    facts = {one["key"]: one for one in older(server, files)["files"]}
    for one in facts.values():
        one["links"] = {"self": server.url("about-the-file"), "content": one["links"]["self"]}
    return {"id": "77", "files": {"enabled": True, "count": len(facts), "entries": facts}}


def entry_list(server: Server, files: Files) -> dict[str, Any]:
    content = entries(server, files)
    content["files"]["entries"] = list(content["files"]["entries"].values())
    return content


def bare_entries(server: Server, files: Files) -> dict[str, Any]:
    content = entries(server, files)
    for name, facts in content["files"]["entries"].items():
        del facts["links"], facts["key"]
        server.serve(f"api/records/77/files/{name}/content", files[name])
    return content


FORMS: list[Callable[[Server, Files], dict[str, Any]]] = [older, entries, entry_list, bare_entries]


def article(server: Server, files: Files) -> dict[str, Any]:
    return {
        "files": [
            {
                "id": number,
                "name": name,
                "size": len(content),
                "is_link_only": False,
                "download_url": server.serve(f"files/{number}", content).url,
                "supplied_md5": "",
                "computed_md5": md5(content),
            }
            for number, (name, content) in enumerate(files.items())
        ]
    }


def asked(*files: str, archive: str = "zenodo", **how: Any) -> list[Wanted]:
    return files_of(Record(archive, "77", files, ""), replace(QUICK, **how))


def refused(match: str, *files: str, archive: str = "zenodo") -> CorpusError:
    with pytest.raises(CorpusError, match=match) as caught:
        asked(*(files or ("a.zip",)), archive=archive)
    return caught.value


def of_record(*files: str, into: str | None = None, archive: str = "zenodo", **more: Any) -> CorpusDefinition:
    given = {archive: "77", "files": list(files)} | ({} if into is None else {"into": into})
    return corpus(record=given, **more)


# What is read of an answer.


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_every_form_gives_the_same_files(server: Server, tmp_path: Path, form: Any) -> None:
    answer(server, "api/records/77", form(server, {"a.zip": ARCHIVE, "b.txt": b"b", "c.txt": b"c"}))
    assert happened(run([of_record("a.zip", "b.*", into="meta")], tmp_path)) == ["downloaded"] * 2
    assert tree(tmp_path) == {"tiny/meta/f1/a.wav": b"a", "tiny/meta/b.txt": b"b"}
    assert [one.name for one in tmp_path.iterdir()] == ["tiny"]


def test_what_a_record_says_is_what_a_file_must_be(server: Server) -> None:
    answer(server, "api/records/77", older(server, {"a.zip": ARCHIVE}))
    (one,) = asked("a.zip")
    assert one.remote.bytes == len(ARCHIVE)
    assert one.remote.checksums == {"md5": md5(ARCHIVE)}
    assert (one.name, one.into, one.origin) == ("a.zip", "", "zenodo 77 a.zip")


def test_names_and_patterns_fit_as_in_a_shell(server: Server) -> None:
    accent = unicodedata.normalize("NFD", "Oréau.rar")
    names = ["a.zip", "A.ZIP", "a[1].zip", ".hidden", accent]
    answer(server, "api/records/77", older(server, {name: name.encode() for name in names}))
    composed = unicodedata.normalize("NFC", accent)
    for pattern, found in {
        "*": ["a.zip", "A.ZIP", "a[1].zip", composed],
        "*.zip": ["a.zip", "a[1].zip"],
        "a[1].zip": ["a[1].zip"],
        composed: [composed],
    }.items():
        assert [one.name for one in asked(pattern)] == found
    assert [one.name for one in asked("*.zip", "a.*")] == ["a.zip", "a[1].zip"]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_a_file_that_is_not_there_is_told_with_those_that_are(server: Server, form: Any) -> None:
    answer(server, "api/records/77", form(server, {"old.zip": ARCHIVE, "notes.txt": b"x"}))
    error = refused("cannot be used", "notes.txt", "a*.zip")
    assert error.file == server.url("api/records/77")
    assert error.field == "'a*.zip'"
    assert error.found == "'old.zip', 'notes.txt'"


def test_of_many_names_some_are_told(server: Server) -> None:
    answer(server, "api/records/77", older(server, {f"{number}.txt": b"x" for number in range(40)}))
    assert str(refused("cannot be used").found).endswith("'29.txt' and 10 more")


@pytest.mark.parametrize("checksum", ["0" * 32, "md5:xyz", f"sha1:{'0' * 40}", f"md5:{'0' * 31}", 7, None])
def test_another_checksum_than_is_known_is_refused(server: Server, checksum: object) -> None:
    content = older(server, {"a.zip": ARCHIVE})
    content["files"][0]["checksum"] = checksum
    answer(server, "api/records/77", content)
    assert refused("cannot be used").field == "files.0.checksum"


@pytest.mark.parametrize("size", [0, -1, "9", 9.5, True, None])
def test_a_size_that_is_none_is_refused(server: Server, size: object) -> None:
    content = entries(server, {"a.zip": ARCHIVE})
    content["files"]["entries"]["a.zip"]["size"] = size
    answer(server, "api/records/77", content)
    assert refused("cannot be used").field == "files.entries.'a.zip'.size"


@pytest.mark.parametrize("url", ["http://zenodo.org/x", "ftp://127.0.0.1/x", "file:///etc/passwd", "/x", "https://["])
def test_a_file_behind_another_address_than_https_is_refused(server: Server, url: str) -> None:
    content = older(server, {"a.zip": ARCHIVE})
    content["files"][0]["links"]["self"] = url
    answer(server, "api/records/77", content)
    assert refused("cannot be used").field == "files.0.links.self"


def test_an_archive_elsewhere_cannot_lead_to_this_machine(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.dumps(older(server, {"a.zip": ARCHIVE})).encode()
    monkeypatch.setattr(record, "BASES", {"zenodo": "https://zenodo.test"})
    monkeypatch.setattr(record, "fetch_json", lambda url, limit, patience: content)
    assert refused("cannot be used").field == "files.0.links.self"


@pytest.mark.parametrize(
    ("content", "field"),
    [([], "files"), ({}, "files"), ({"files": 7}, "files"), ({"files": {}}, "files.entries"),
     ({"files": {"entries": 7}}, "files.entries"), ({"files": [7]}, "files.0.key"), ({"files": [{}]}, "files.0.key"),
     ({"files": [{"key": 7}]}, "files.0.key"), ({"files": {"entries": {"a.zip": 7}}}, "files.entries.'a.zip'"),
     ({"files": {"entries": {"a.zip": {"key": "b"}}}}, "files.entries.'a.zip'.key"),
     ({"files": [{"key": "a.zip", "size": 1, "checksum": f"md5:{'0' * 32}"}]}, "files.0.links"),
     ({"files": []}, "'a.zip'"), (b"[" * 100_000, "the whole answer"), (b"{", "the whole answer"),
     (b"\xff", "the whole answer"), (b"", "the whole answer")],
)  # fmt: skip
def test_an_answer_of_another_form_is_named(server: Server, content: Any, field: str) -> None:
    answer(server, "api/records/77", content)
    error = refused("cannot be used")
    assert error.field == field
    assert error.file == server.url("api/records/77")


@pytest.mark.parametrize("name", ["../a.zip", "a/b.zip", "a\\b.zip", "a\n.zip", "x" * 201])
def test_a_name_that_leads_elsewhere_is_refused(server: Server, name: str) -> None:
    answer(server, "api/records/77", older(server, {name: ARCHIVE}))
    error = refused("cannot be used", "[!.]*" if name[0] != "." else "*", "*.zip")
    assert error.field in ("files.0", "'*'")


# What is no answer.


def test_a_page_in_the_place_of_the_answer_is_named(server: Server) -> None:
    answer(server, "api/records/77", b"<html>", kind="text/html; charset=utf-8")
    assert "a page and no file" in str(refused("could not be got").found)


@pytest.mark.parametrize("announced", [None, 0])
def test_an_answer_that_is_too_large_is_left(
    server: Server, monkeypatch: pytest.MonkeyPatch, announced: int | None
) -> None:  # fmt: skip
    monkeypatch.setattr(record, "LIMIT", 1000)
    answer(server, "api/records/77", b" " * 2000, announced=announced)
    error = refused("could not be got")
    assert error.expected == "at most 1000 bytes"
    assert error.found == ("2000 bytes" if announced is None else "more bytes")


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_record_that_is_not_there_or_not_open_is_asked_for_once(server: Server, status: int) -> None:
    answer(server, "api/records/77", {}, first=[(status, {})])
    assert f"answers {status}" in str(refused("could not be got").found)
    assert len(server.asked) == 1


def test_an_archive_in_trouble_is_asked_again(server: Server) -> None:
    content = older(server, {"a.zip": ARCHIVE})
    answer(server, "api/records/77", content, first=[(429, {"Retry-After": "0"}), (503, {})], cuts=[])
    assert len(asked("a.zip")) == 1
    answer(server, "api/records/77", content, cuts=[9])
    assert len(asked("a.zip")) == 1
    answer(server, "api/records/77", content, first=[(503, {})] * 9)
    refused("could not be got")
    assert len(server.asked) == 3 + 2 + QUICK.tries


def test_an_archive_is_asked_by_https_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record, "BASES", {"zenodo": "http://zenodo.test"})
    assert refused("cannot be used").field == "address"


def test_the_archives_themselves_are_asked_by_https() -> None:
    source = Path(record.__file__).read_text(encoding="utf-8")
    assert '"https://zenodo.org/api/records"' in source
    assert '"https://api.figshare.com/v2/articles"' in source


# figshare.


def test_an_article_of_figshare_gives_files(server: Server, tmp_path: Path) -> None:
    answer(server, "v2/articles/77", article(server, {"a.zip": ARCHIVE, "b.txt": b"b"}))
    assert happened(run([of_record("*", archive="figshare")], tmp_path)) == ["downloaded"] * 2
    assert tree(tmp_path) == {"tiny/f1/a.wav": b"a", "tiny/b.txt": b"b"}


def test_of_an_article_with_many_files_all_are_asked_for(server: Server) -> None:
    content = article(server, {f"{number}.txt": b"x" for number in range(12)})
    answer(server, "v2/articles/77", {"files": content["files"][:10]})
    answer(server, "v2/articles/77/files?page_size=1000", content["files"])
    assert len(asked("*.txt", archive="figshare")) == 12
    answer(server, "v2/articles/77/files?page_size=1000", {})
    assert refused("cannot be used", archive="figshare").field == "files"


@pytest.mark.parametrize(
    ("change", "field"),
    [({"is_link_only": True}, "is_link_only"), ({"computed_md5": ""}, "computed_md5"),
     ({"computed_md5": "x"}, "computed_md5"), ({"supplied_md5": "0" * 32}, "computed_md5"),
     ({"size": None}, "size"), ({"download_url": "http://a.test/"}, "download_url")],
)  # fmt: skip
def test_a_file_of_an_article_that_cannot_be_checked_is_refused(
    server: Server, change: dict[str, Any], field: str
) -> None:  # fmt: skip
    content = article(server, {"a.zip": ARCHIVE})
    content["files"][0] |= change
    answer(server, "v2/articles/77", content)
    assert refused("cannot be used", archive="figshare").field == f"files.0.{field}"
    answer(server, "v2/articles/77", article(server, {"a.zip": ARCHIVE}) | {"download_disabled": True})
    assert refused("cannot be used", archive="figshare").field == "download_disabled"


# Corpora.


def test_what_is_there_is_not_asked_for_again(server: Server, tmp_path: Path) -> None:
    answer(server, "api/records/77", older(server, {"a.zip": ARCHIVE, "b.txt": b"b"}))
    german, italian = of_record("*.zip", folder="two"), of_record("*.zip", folder="two", name="small", language="it")
    assert happened(run([german, italian], tmp_path)) == ["downloaded"]
    assert [path for path, _ in server.asked] == ["/api/records/77", "/api/records/77/files/0/content"]
    marker = json.loads((tmp_path / "two" / MARKER).read_text(encoding="utf-8"))
    assert marker["downloads"][0]["record"] == "zenodo 77 *.zip"
    server.asked.clear()
    (report,) = run([italian], tmp_path)
    assert [(one.file, one.happened) for one in report.outcomes] == [("a.zip", "already there")]
    assert server.asked == []
    # Another name was not chosen then.
    assert happened(run([of_record("*.zip", "b.txt", folder="two")], tmp_path)) == ["already there", "downloaded"]
    assert set(tree(tmp_path / "two")) == {"f1/a.wav", "b.txt"}


def test_files_of_the_user_are_never_touched(server: Server, tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "own.wav").write_bytes(b"own")
    (report,) = run([of_record("a.zip")], tmp_path)
    assert "was not downloaded" in str(report.failed[0])
    assert happened([report]) == ["failed"]
    assert server.asked == []


def test_a_record_whose_file_changed_begins_anew(server: Server, tmp_path: Path) -> None:
    old, new = zipped({"old.wav": b"o" * 5000}), zipped({"new.wav": b"n" * 5000})
    answer(server, "api/records/77", older(server, {"a.zip": old}))
    place = "/api/records/77/files/0/content"
    server.files[place].cuts = [3000] * QUICK.tries
    server.files[place].ranges = False
    (report,) = run([of_record("a.zip")], tmp_path)
    assert "could not be got" in str(report.failed[0])
    assert (tmp_path / ".downloads" / "tiny" / "a.zip.partial").stat().st_size == 3000
    answer(server, "api/records/77", older(server, {"a.zip": new}))
    server.asked.clear()
    assert happened(run([of_record("a.zip")], tmp_path)) == ["downloaded"]
    assert server.asked == [("/api/records/77", None), (place, None)]
    assert tree(tmp_path) == {"tiny/new.wav": b"n" * 5000}


def test_a_cut_transfer_goes_on(server: Server, tmp_path: Path) -> None:
    content = zipped({"a.wav": bytes(9000)})
    answer(server, "api/records/77", older(server, {"a.zip": content}))
    server.files["/api/records/77/files/0/content"].cuts = [3000]
    assert happened(run([of_record("a.zip")], tmp_path)) == ["downloaded"]
    assert server.ranges == [None, None, "bytes=3000-"]


def test_a_file_that_is_not_the_recorded_one_is_not_placed(server: Server, tmp_path: Path) -> None:
    answer(server, "api/records/77", older(server, {"a.zip": ARCHIVE}))
    server.files["/api/records/77/files/0/content"].content = ARCHIVE[:-1] + b"x"
    (report,) = run([of_record("a.zip")], tmp_path)
    assert f"md5 {md5(ARCHIVE)}" in str(report.failed[0].expected)
    assert not (tmp_path / "tiny").exists()


def test_own_links_and_a_record_are_placed_together(server: Server, tmp_path: Path) -> None:
    table = listed(server.serve("labels.csv", b"file,emotion\n"))
    answer(server, "api/records/77", older(server, {"a.zip": ARCHIVE}))
    both = replace(of_record("a.zip"), downloads=(table,))
    assert happened(run([both], tmp_path)) == ["downloaded"] * 2
    assert set(tree(tmp_path / "tiny")) == {"f1/a.wav", "labels.csv"}


def test_what_fails_for_one_corpus_does_not_keep_the_others(server: Server, tmp_path: Path) -> None:
    answer(server, "api/records/77", older(server, {"b.zip": ARCHIVE}))
    reports = run([of_record("a.zip", name="broken"), of_record("b.zip")], tmp_path)
    assert happened(reports) == ["failed", "downloaded"]
    assert [len(report.failed) for report in reports] == [1, 0]


@pytest.mark.parametrize("access", ["account", "form", "paid", None])
def test_records_behind_a_form_are_not_asked_for(server: Server, tmp_path: Path, access: str | None) -> None:
    (report,) = run([of_record("a.zip", access=access)], tmp_path)
    assert happened([report]) == ["by hand"]
    assert server.asked == []


# Definitions and the command.


@pytest.mark.parametrize(
    ("given", "field"),
    [(7, "record"), ({}, "record"), ({"zenodo": "7"}, "record"), ({"files": ["a"]}, "record"),
     ({"zenodo": "7", "figshare": "7", "files": ["a"]}, "record"),
     ({"zenodo": "7", "files": ["a"], "name": "b"}, "record"), ({"zenodo": 7, "files": ["a"]}, "record.zenodo"),
     ({"figshare": "7/x", "files": ["a"]}, "record.figshare"), ({"zenodo": "0", "files": ["a"]}, "record.zenodo"),
     ({"zenodo": "7", "files": []}, "record.files"), ({"zenodo": "7", "files": "a"}, "record.files"),
     ({"zenodo": "7", "files": ["a", "b/c"]}, "record.files.1"), ({"zenodo": "7", "files": [""]}, "record.files.0"),
     ({"zenodo": "7", "files": [".."]}, "record.files.0"), ({"zenodo": "7", "files": [7]}, "record.files.0")],
)  # fmt: skip
def test_a_wrong_record_is_told_by_line_and_key(tmp_path: Path, given: object, field: str) -> None:
    content = yaml.safe_load(TINY_DEFINITION) | {"access": "direct", "record": given}
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        CorpusDefinition.from_yaml(tmp_path / "tiny.yaml")
    assert caught.value.field == field
    line = int(str(caught.value.file).rpartition(":")[2])
    assert line >= 1 + list(content).index("record")


@pytest.mark.parametrize("into", ["..", "/etc", "a//b", 7])
def test_a_record_cannot_be_placed_elsewhere(server: Server, tmp_path: Path, into: Any) -> None:
    with pytest.raises(ConfigError, match=r"record\.into"):
        run([of_record("a.zip", into=into)], tmp_path)
    assert server.asked == []


def test_records_of_the_shipped_corpora_are_behind_open_links() -> None:
    listed_ones = {name: one for name, one in load_definitions().items() if one.record}
    assert {"cafe", "oreau", "emouerj", "emozionalmente", "kannada", "asvpesd_en"} <= set(listed_ones)
    for one in listed_ones.values():
        assert one.access == "direct"
        assert one.record
        assert str(one.record.get("zenodo", one.record.get("figshare"))) in str(one.page)


def test_the_command_says_what_it_asks_and_sums_up(server: Server, folders: dict[str, str]) -> None:
    files = {f"{number:02}.txt": b"x" * 1000 for number in range(31)}
    answer(server, "api/records/77", older(server, files))
    define(folders, record={"zenodo": "77", "files": ["*.txt"]})
    done = command(folders, "download", "--corpus", "tiny")
    assert done.exit_code == 0, done.output
    assert "files of zenodo 77. Licence: none" in done.output
    assert "31 files" in done.output
    again = command(folders, "download", "--corpus", "tiny")
    assert "already there" in again.output
    define(folders, record={"zenodo": "77", "files": ["*.zip"]})
    lacking = command(folders, "download", "--corpus", "tiny")
    assert lacking.exit_code == 1
    assert "'00.txt', '01.txt'" in lacking.output

"""Downloads from a server on this machine: what is got, resumed, refused, placed and said."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from conftest import TINY_DEFINITION
from file_server import Server, file_server

from extract.cli import main
from extract.download import session, transfer, web
from extract.download.partial import Remote
from extract.download.place import MARKER
from extract.download.session import Report, download
from extract.download.web import Patience
from mser.corpora import CorpusDefinition, catalogue
from mser.errors import ConfigError, CorpusError, DiskError, MserError

ROOT = Path(__file__).resolve().parent.parent
CONTENT = bytes(range(256)) * 4096
QUICK = Patience(timeout=5, tries=3, pause=0)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    for name in ("CORPUS", "MSER_CORPORA", "MSER_DEFINITIONS", "MSER_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(os, "sync", lambda: None)  # of all disks: others may be writing
    with file_server() as running:
        yield running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "downloads" / "file.bin"


def get(remote: Remote, path: Path, patience: Patience = QUICK) -> transfer.Transferred:
    done = transfer.transfer(remote, path, patience)
    assert path.read_bytes() == CONTENT
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    return done


def refused(remote: Remote, path: Path, match: str, kept: int = 0, patience: Patience = QUICK) -> MserError:
    """The error of a transfer, of which so many bytes are kept."""
    with pytest.raises(CorpusError, match=match) as caught:
        transfer.transfer(remote, path, patience)
    partial = path.with_name("file.bin.partial")
    assert not path.exists()
    assert (partial.stat().st_size if partial.exists() else 0) == kept
    return caught.value


# Transfers.


def test_a_file_is_got_once(server: Server, path: Path) -> None:
    remote = server.serve("file.bin", CONTENT)
    assert get(remote, path).fetched
    assert not get(remote, path).fetched
    assert server.ranges == [None]
    path.write_bytes(CONTENT[:-1] + b"x")
    assert get(remote, path).fetched


def test_a_cut_connection_goes_on_with_the_rest_alone(server: Server, path: Path) -> None:
    remote = server.serve("file.bin", CONTENT, cuts=[300_000, 400_000])
    assert get(remote, path).resumed == 0
    assert server.ranges == [None, "bytes=300000-", "bytes=700000-"]


@pytest.mark.parametrize("etag", ['"one"', None, 'W/"weak"'])
def test_a_later_run_goes_on_where_tries_ended(server: Server, path: Path, etag: str | None) -> None:
    remote = server.serve("file.bin", CONTENT, cuts=[1000], etag=etag)
    refused(remote, path, "1000 of 1048576 bytes are there", kept=1000, patience=replace(QUICK, tries=1))
    if etag is not None and etag.startswith("W/"):
        server.files["/file.bin"].etag = None  # it may not be asked for by If-Range
    assert get(remote, path).resumed == 1000
    assert server.ranges == [None, "bytes=1000-"]


def test_a_server_that_ignores_ranges_begins_anew(server: Server, path: Path) -> None:
    remote = server.serve("file.bin", CONTENT, cuts=[5000], ranges=False)
    get(remote, path)
    assert server.ranges == [None, "bytes=5000-"]


def test_a_server_that_ignores_ranges_and_always_cuts_is_left(server: Server, path: Path) -> None:
    remote = server.serve("file.bin", CONTENT, cuts=[5000, 7000, 6000, 9000], ranges=False)
    refused(remote, path, "could not be got", kept=6000)
    assert len(server.asked) == QUICK.tries


def test_a_file_that_changed_meanwhile_begins_anew(server: Server, path: Path) -> None:
    server.serve("file.bin", CONTENT[::-1], cuts=[5000], etag='"old"')
    remote = replace(server.serve("new.bin", CONTENT), url=server.url("file.bin"))
    refused(remote, path, "could not be got", kept=5000, patience=replace(QUICK, tries=1))
    server.serve("file.bin", CONTENT, etag='"new"')
    get(remote, path)
    assert server.ranges == [None, "bytes=5000-"]


def test_a_file_that_changed_and_says_nothing_of_it_begins_anew(server: Server, path: Path) -> None:
    server.serve("file.bin", CONTENT[::-1], cuts=[5000], etag=None)
    remote = replace(server.serve("new.bin", CONTENT), url=server.url("file.bin"))
    refused(remote, path, "could not be got", kept=5000, patience=replace(QUICK, tries=1))
    server.serve("file.bin", CONTENT, etag=None)
    get(remote, path)
    assert server.ranges == [None, "bytes=5000-", None]


def test_a_part_of_another_definition_is_not_gone_on_with(server: Server, path: Path) -> None:
    old = server.serve("old.bin", CONTENT[::-1], cuts=[5000])
    refused(old, path, "could not be got", kept=5000, patience=replace(QUICK, tries=1))
    get(server.serve("new.bin", CONTENT), path)
    assert server.ranges == [None, None]


def test_a_damaged_sidecar_counts_as_missing(server: Server, path: Path) -> None:
    remote = server.serve("file.bin", CONTENT, cuts=[5000])
    refused(remote, path, "could not be got", kept=5000, patience=replace(QUICK, tries=1))
    path.with_name("file.bin.partial.json").write_text("{", encoding="utf-8")
    with pytest.warns(UserWarning, match="counts as missing"):
        get(remote, path)


@pytest.mark.parametrize("algorithm", ["sha256", "md5"])
def test_a_wrong_checksum_names_both_and_keeps_nothing(server: Server, path: Path, algorithm: str) -> None:
    wrong = {"sha256": "0" * 64, "md5": "0" * 32}[algorithm]
    remote = replace(server.serve("file.bin", CONTENT), checksums={algorithm: wrong})
    error = refused(remote, path, "is not the one that the definition describes")
    assert f"{algorithm} {wrong}" in str(error.expected)
    assert str(error.found).startswith(f"{algorithm} ")
    assert wrong not in str(error.found)
    assert len(server.asked) == 1


@pytest.mark.parametrize("announced", [None, 0])
def test_a_longer_file_is_left_as_soon_as_that_is_known(server: Server, path: Path, announced: int | None) -> None:
    server.serve("file.bin", CONTENT + b"more", announced=announced)
    remote = replace(server.serve("right.bin", CONTENT), url=server.url("file.bin"))
    error = refused(remote, path, "could not be got")
    assert str(error.found) == ("1048580 bytes" if announced is None else "more bytes")


def test_a_server_that_announces_less_than_it_sends_is_not_believed(server: Server, path: Path) -> None:
    remote = server.serve("file.bin", CONTENT, announced=len(CONTENT) - 5)
    refused(remote, path, "could not be got")


@pytest.mark.parametrize("announced", [None, 0])
def test_a_shorter_file_is_named(server: Server, path: Path, announced: int | None) -> None:
    server.serve("file.bin", CONTENT[:-3], announced=announced)
    remote = replace(server.serve("right.bin", CONTENT), url=server.url("file.bin"))
    assert "1048573 bytes" in str(refused(remote, path, "could not be got").found)


def test_a_page_in_the_place_of_the_file_is_named(server: Server, path: Path) -> None:
    remote = server.serve("file.bin", CONTENT)
    server.serve("file.bin", b"<html>please log in</html>", kind="text/html; charset=utf-8")
    assert "a page and no file" in str(refused(remote, path, "could not be got").found)


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_file_that_is_not_there_is_asked_for_once(server: Server, path: Path, status: int) -> None:
    remote = server.serve("file.bin", CONTENT, first=[(status, {})])
    refused(remote, path, f"the server answers {status}")
    assert len(server.asked) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_server_in_trouble_is_asked_again(server: Server, path: Path, status: int) -> None:
    get(server.serve("file.bin", CONTENT, first=[(status, {"Retry-After": "0"}), (500, {})]), path)
    assert len(server.asked) == 3


def test_a_server_that_stays_in_trouble_is_left(server: Server, path: Path) -> None:
    refused(server.serve("file.bin", CONTENT, first=[(503, {})] * 9), path, "the server answers 503")
    assert len(server.asked) == QUICK.tries


@pytest.mark.parametrize("later", ["7200", "Fri, 01 Jan 2200 00:00:00 GMT"])
def test_a_server_that_asks_to_wait_for_long_is_not_waited_for(server: Server, path: Path, later: str) -> None:
    remote = server.serve("file.bin", CONTENT, first=[(429, {"Retry-After": later})])
    refused(remote, path, "asks to wait")
    assert len(server.asked) == 1


@pytest.mark.parametrize("later", ["soon", "-1", "Mon, 01 Jan 2001 00:00:00 GMT"])
def test_a_time_to_wait_that_makes_no_sense_is_none(server: Server, path: Path, later: str) -> None:
    get(server.serve("file.bin", CONTENT, first=[(429, {"Retry-After": later})]), path)


def test_a_redirection_is_followed(server: Server, path: Path) -> None:
    remote = server.serve("file.bin", CONTENT)
    server.serve("a", b"", first=[(302, {"Location": "/b?c=d"})])
    server.serve("b?c=d", b"", first=[(307, {"Location": server.url("file.bin")})])
    get(replace(remote, url=server.url("a")), path)


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x"])
def test_a_redirection_to_what_is_no_web_address_is_refused(server: Server, path: Path, target: str) -> None:
    remote = server.serve("file.bin", CONTENT, first=[(302, {"Location": target})])
    refused(remote, path, "redirections to http or https")


@pytest.mark.parametrize("target", ["http://[", "http://a:b:c/", "http://\u2603.\udcff/"])
def test_a_redirection_to_nonsense_is_left(server: Server, path: Path, target: str) -> None:
    headers = {"Location": target.encode("utf-8", "surrogateescape").decode("latin-1")}
    refused(server.serve("file.bin", CONTENT, first=[(302, headers)] * 9), path, "could not be got")


def test_a_redirection_in_circles_is_left(server: Server, path: Path) -> None:
    remote = server.serve("file.bin", CONTENT, first=[(302, {"Location": "/file.bin"})] * 50)
    refused(remote, path, "at most 10 redirections")
    assert len(server.asked) == 11


def test_a_redirection_from_https_to_http_is_refused(monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    httpx = web.httpx
    transport = httpx.MockTransport(lambda request: httpx.Response(302, headers={"Location": "http://other.test/"}))
    real = httpx.Client
    monkeypatch.setattr(httpx, "Client", lambda **options: real(transport=transport, **options))
    refused(Remote("https://here.test/file.bin", 5, {"md5": "0" * 32}), path, "no redirection from https to http")


def test_a_server_that_hangs_is_asked_again(server: Server, path: Path) -> None:
    remote = server.serve("file.bin", CONTENT, cuts=[5000], hangs=True)
    get(remote, path, Patience(timeout=0.3, tries=2, pause=0))
    assert server.ranges == [None, "bytes=5000-"]


def test_a_server_that_is_not_there_is_named(server: Server, path: Path) -> None:
    remote = replace(server.serve("file.bin", CONTENT), url="http://127.0.0.1:1/file.bin")
    assert "ConnectError" in str(refused(remote, path, "could not be got").found)


def test_a_part_of_another_place_than_asked_for_is_not_believed(server: Server, path: Path) -> None:
    remote = server.serve("file.bin", CONTENT, cuts=[5000])
    served = server.files["/file.bin"]
    wrong = (206, {"Content-Range": f"bytes 9-{len(CONTENT) - 1}/{len(CONTENT)}"})
    refused(remote, path, "could not be got", kept=5000, patience=replace(QUICK, tries=1))
    served.first.append(wrong)
    get(remote, path)


def test_a_full_disk_is_told_beforehand(server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = server.serve("file.bin", CONTENT)
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(DiskError, match="too small for a download"):
        transfer.transfer(remote, path, QUICK)
    assert server.asked == []


def test_a_folder_that_cannot_be_written_is_told(server: Server, path: Path) -> None:
    path.parent.write_text("a file", encoding="utf-8")
    with pytest.raises(DiskError, match="cannot be written"):
        transfer.transfer(server.serve("file.bin", CONTENT), path, QUICK)
    assert server.asked == []


def test_a_disk_that_fills_up_keeps_what_is_there(server: Server, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remote = server.serve("file.bin", CONTENT)

    def full(done: int, total: int) -> None:
        if done:
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DiskError, match="No space left"):
        transfer.transfer(remote, path, QUICK, full)
    assert get(remote, path).resumed > 0


def test_ctrl_c_keeps_what_is_there(server: Server, path: Path) -> None:
    remote = server.serve("file.bin", CONTENT, cuts=[5000], hangs=True)

    def stop(done: int, total: int) -> None:
        if done >= 5000:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transfer.transfer(remote, path, QUICK, stop)
    assert get(remote, path).resumed == 5000


def test_a_killed_process_is_gone_on_with(server: Server, path: Path) -> None:
    remote = server.serve("file.bin", CONTENT, cuts=[70_000], hangs=True)
    program = (
        "import sys, pathlib; from extract.download.transfer import Remote, transfer;"
        "transfer(Remote(sys.argv[1], int(sys.argv[2]), {'sha256': sys.argv[3]}), pathlib.Path(sys.argv[4]))"
    )
    arguments = [remote.url, str(remote.bytes), remote.checksums["sha256"], str(path)]
    process = subprocess.Popen([sys.executable, "-c", program, *arguments], cwd=ROOT)
    partial = path.with_name("file.bin.partial")
    try:
        while process.poll() is None and (not partial.exists() or partial.stat().st_size < 70_000):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        assert process.wait() == -signal.SIGKILL
    assert get(remote, path).resumed == 70_000


# Corpora.


def zipped(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def listed(remote: Remote, **more: Any) -> dict[str, Any]:
    """A file as a definition lists it."""
    return {"url": remote.url, "bytes": remote.bytes, **remote.checksums, **more}


def corpus(*downloads: dict[str, Any], **more: Any) -> CorpusDefinition:
    content = yaml.safe_load(TINY_DEFINITION) | {"access": "direct", "downloads": downloads} | more
    return CorpusDefinition(**content)


def run(chosen: Sequence[CorpusDefinition], corpora: Path) -> list[Report]:
    return list(download(chosen, corpora, session_progress, QUICK))


class session_progress:  # noqa: N801
    """No bar."""

    def __init__(self, title: str, unit: str) -> None:
        pass

    def __enter__(self) -> Any:
        return lambda done, total, note="": None

    def __exit__(self, *error: object) -> None:
        pass


def happened(reports: Sequence[Report]) -> list[str]:
    return [one.happened for report in reports for one in report.outcomes]


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but for the markers."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MARKER
    }


def test_archives_and_other_files_of_a_corpus_are_placed_together(server: Server, tmp_path: Path) -> None:
    sound = server.serve("sound.zip", zipped({"f1/a.wav": b"a", "README": b"r"}))
    more = server.serve("more.zip", zipped({"f1/b.wav": b"b", "README": b"r"}))
    table = server.serve("labels?id=7", b"file,emotion\n")
    definition = corpus(listed(sound), listed(more), listed(table, name="labels.csv", into="meta/new"))
    assert happened(run([definition], tmp_path)) == ["downloaded"] * 3
    whole = {"README": b"r", "f1/a.wav": b"a", "f1/b.wav": b"b", "meta/new/labels.csv": b"file,emotion\n"}
    assert tree(tmp_path) == {f"tiny/{name}": content for name, content in whole.items()}
    assert [one.name for one in tmp_path.iterdir()] == ["tiny"]
    marker = json.loads((tmp_path / "tiny" / MARKER).read_text(encoding="utf-8"))
    assert [one["url"] for one in marker["downloads"]] == [sound.url, more.url, table.url]
    assert marker["downloads"][0]["sha256"] == sound.checksums["sha256"]
    assert marker["corpora"]["tiny"]["licence"] == "none"
    asked = len(server.asked)
    assert happened(run([definition], tmp_path)) == ["already there"] * 3
    assert len(server.asked) == asked


def test_corpora_of_one_folder_share_a_download(server: Server, tmp_path: Path) -> None:
    both = listed(server.serve("both.zip", zipped({"de/a.wav": b"a", "it/b.wav": b"b"})))
    german, italian = corpus(both, folder="two"), corpus(both, folder="two", name="small", language="it")
    assert happened(run([german, italian], tmp_path)) == ["downloaded"]
    assert len(server.asked) == 1
    assert happened(run([italian], tmp_path)) == ["already there"]
    unlike = corpus({**both, "bytes": 7}, folder="two", name="small", language="it")
    with pytest.raises(ConfigError, match="cannot be used"):
        run([german, unlike], tmp_path)


@pytest.mark.parametrize("folder", ["Kannada Speech (1)", "it's [a] & b + c*", "$(x) `y` ~"])
def test_a_folder_of_an_odd_name_is_one_folder(server: Server, tmp_path: Path, folder: str) -> None:
    definition = corpus(listed(server.serve("a.zip", zipped({"f1/a.wav": b"a"}))), folder=folder)
    assert happened(run([definition], tmp_path)) == ["downloaded"]
    assert tree(tmp_path) == {f"{folder}/f1/a.wav": b"a"}
    assert [one.name for one in tmp_path.iterdir()] == [folder]
    assert happened(run([definition], tmp_path)) == ["already there"]


def test_a_later_file_joins_those_that_are_there(server: Server, tmp_path: Path) -> None:
    first = listed(server.serve("first.zip", zipped({"a.wav": b"a", "README": b"r"})))
    later = listed(server.serve("later.zip", zipped({"b.wav": b"b", "README": b"r"})))
    run([corpus(first)], tmp_path)
    assert happened(run([corpus(first, later)], tmp_path)) == ["already there", "downloaded"]
    assert set(tree(tmp_path / "tiny")) == {"a.wav", "b.wav", "README"}
    # What differs from a file that is there is never put over it.
    other = listed(server.serve("other.zip", zipped({"c.wav": b"c", "a.wav": b"another"})))
    (report,) = run([corpus(first, later, other)], tmp_path)
    assert "would replace another file" in str(report.failed[0])
    assert tree(tmp_path / "tiny")["a.wav"] == b"a"
    assert "c.wav" not in tree(tmp_path / "tiny")


def test_another_version_of_a_download_is_told(server: Server, tmp_path: Path) -> None:
    run([corpus(listed(server.serve("x.zip", zipped({"a.wav": b"a"}))))], tmp_path)
    (report,) = run([corpus(listed(server.serve("x.zip", zipped({"a.wav": b"b"}))))], tmp_path)
    assert "another version" in str(report.failed[0])
    assert tree(tmp_path / "tiny") == {"a.wav": b"a"}


def test_files_of_the_user_are_never_touched(server: Server, tmp_path: Path) -> None:
    definition = corpus(listed(server.serve("x.zip", zipped({"a.wav": b"a"}))))
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "own.wav").write_bytes(b"own")
    (report,) = run([definition], tmp_path)
    assert "was not downloaded" in str(report.failed[0])
    assert server.asked == []
    assert tree(tmp_path) == {"tiny/own.wav": b"own"}
    (tmp_path / "tiny" / "own.wav").unlink()
    assert happened(run([definition], tmp_path)) == ["downloaded"]


def test_a_folder_that_leads_to_another_disk_is_used(server: Server, tmp_path: Path) -> None:
    definition = corpus(listed(server.serve("x.zip", zipped({"a.wav": b"a"}))))
    (tmp_path / "elsewhere" / "big").mkdir(parents=True)
    (tmp_path / "corpora").mkdir()
    (tmp_path / "corpora" / "tiny").symlink_to(tmp_path / "elsewhere" / "big")
    assert happened(run([definition], tmp_path / "corpora")) == ["downloaded"]
    assert tree(tmp_path / "elsewhere" / "big") == {"a.wav": b"a"}


def test_what_fails_for_one_corpus_does_not_keep_the_others(server: Server, tmp_path: Path) -> None:
    good = listed(server.serve("good.zip", zipped({"a.wav": b"a"})))
    gone = listed(server.serve("gone.zip", b"gone"))
    del server.files["/gone.zip"]
    broken = corpus(good, gone, name="broken")
    reports = run([broken, corpus(good)], tmp_path)
    assert happened(reports) == ["downloaded", "failed", "downloaded"]
    assert [len(report.failed) for report in reports] == [1, 0]
    assert not (tmp_path / "broken").exists()
    # What was got of it is not asked for again.
    server.asked.clear()
    server.serve("gone.zip", b"gone")
    (report,) = run([corpus(good, {**gone, "name": "note.txt"}, name="broken")], tmp_path)
    assert happened([report]) == ["downloaded before", "downloaded"]
    assert [asked for asked, _ in server.asked] == ["/gone.zip"]
    assert tree(tmp_path / "broken") == {"a.wav": b"a", "note.txt": b"gone"}


def test_a_page_that_was_taken_for_the_archive_is_named(server: Server, tmp_path: Path) -> None:
    (report,) = run([corpus(listed(server.serve("x.zip", b"<!DOCTYPE html><html>")))], tmp_path)
    assert "an HTML page" in str(report.failed[0])
    assert not (tmp_path / "tiny").exists()


def test_an_archive_within_one_is_left_and_named(server: Server, tmp_path: Path) -> None:
    inner = zipped({"a.wav": b"a"})
    (report,) = run([corpus(listed(server.serve("x.zip", zipped({"d/inner.zip": inner}))))], tmp_path)
    assert "d/inner.zip" in report.remarks[0]
    assert tree(tmp_path / "tiny") == {"d/inner.zip": inner}


def test_what_a_killed_process_left_is_cleared_away(server: Server, tmp_path: Path) -> None:
    for name in ("tiny.partial-4194399", "tiny.partial-notes"):
        (tmp_path / name).mkdir()
    run([corpus(listed(server.serve("x.zip", zipped({"a.wav": b"a"}))))], tmp_path)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["tiny", "tiny.partial-notes"]


def test_ctrl_c_while_unpacking_leaves_nothing_half(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    definition = corpus(listed(server.serve("x.zip", zipped({"a.wav": b"a", "b.wav": b"b"}))))
    real = session.put

    def stopped(*arguments: Any) -> list[str]:
        def stop(files: int) -> None:
            raise KeyboardInterrupt

        return real(*arguments[:3], stop)

    monkeypatch.setattr(session, "put", stopped)
    with pytest.raises(KeyboardInterrupt):
        run([definition], tmp_path)
    assert set(tree(tmp_path)) == {".downloads/tiny/x.zip"}
    monkeypatch.setattr(session, "put", real)
    assert happened(run([definition], tmp_path)) == ["downloaded before"]


def test_a_kill_between_two_moves_into_a_folder_is_gone_on_with(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = listed(server.serve("first.zip", zipped({"a.wav": b"a"})))
    later = listed(server.serve("later.zip", zipped({"b.wav": b"b", "c.wav": b"c"})))
    run([corpus(first)], tmp_path)
    (tmp_path / "tiny" / "b.wav").write_bytes(b"b")  # as if it had been moved before
    assert happened(run([corpus(first, later)], tmp_path)) == ["already there", "downloaded"]
    assert set(tree(tmp_path / "tiny")) == {"a.wav", "b.wav", "c.wav"}


def test_two_processes_do_not_write_one_folder(server: Server, tmp_path: Path) -> None:
    definition = corpus(listed(server.serve("x.zip", zipped({"a.wav": b"a"}))))
    with session.alone(tmp_path / ".downloads" / "tiny"):
        (report,) = run([definition], tmp_path)
    assert "Another process is downloading" in str(report.failed[0])
    assert f"process {os.getpid()}" in str(report.failed[0])


def test_a_disk_without_room_to_unpack_is_told_beforehand(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = server.serve("x.zip", zipped({"a.wav": CONTENT}))
    usage = type("Usage", (), {"free": int(1.5 * archive.bytes)})
    monkeypatch.setattr(transfer.shutil, "disk_usage", lambda folder: usage)
    (report,) = run([corpus(listed(archive))], tmp_path)
    assert isinstance(report.failed[0], DiskError)
    assert server.asked == []


@pytest.mark.parametrize("access", ["account", "form", "paid", None])
def test_only_open_links_are_followed(server: Server, tmp_path: Path, access: str | None) -> None:
    definition = corpus(listed(server.serve("x.zip", zipped({"a.wav": b"a"}))), access=access, page="https://page.test")
    (report,) = run([definition], tmp_path)
    assert server.asked == []
    assert happened([report]) == ["by hand"]
    assert report.failed == ()
    for said in ("https://page.test", "make it", str(tmp_path / "tiny"), "make manifest LANG=de", "none"):
        assert said in report.by_hand[0]
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "own.wav").touch()
    assert happened(run([definition], tmp_path)) == ["already there, by hand"]


@pytest.mark.parametrize(
    ("key", "value"),
    [("name", "../x"), ("name", ".x"), ("name", "a/b"), ("name", "a\\b"), ("name", ""), ("name", 7),
     ("into", ".."), ("into", "/etc"), ("into", "a/../b"), ("into", "a//b"), ("into", 7), ("into", ".hidden")],
)  # fmt: skip
def test_a_definition_cannot_place_files_elsewhere(server: Server, tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"downloads\.0\.{key}"):
        run([corpus(listed(server.serve("x.zip", b"x"), **{key: value}))], tmp_path)


@pytest.mark.parametrize("url", ["https://a.test/", "https://a.test/..%2f..%2fx", "https://a.test/%00"])
def test_an_address_without_a_name_needs_one(tmp_path: Path, url: str) -> None:
    one = {"url": url, "bytes": 3, "md5": "0" * 32}
    with pytest.raises(ConfigError, match=r"downloads\.0\.name"):
        run([corpus(one)], tmp_path)


def test_two_files_of_one_name_are_told(tmp_path: Path) -> None:
    one, other = ({"url": f"https://a.test/{place}/x.zip", "bytes": 3, "md5": "0" * 32} for place in "ab")
    with pytest.raises(ConfigError, match=r"downloads\.1\.name"):
        run([corpus(one, other)], tmp_path)


# The command.


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    (tmp_path / "definitions").mkdir()
    monkeypatch.setattr(catalogue, "SHIPPED", tmp_path / "none")
    return {
        "MSER_CORPORA": str(tmp_path / "corpora"),
        "MSER_DEFINITIONS": str(tmp_path / "definitions"),
        "MSER_HOME": str(tmp_path / "work"),
    }


def define(folders: dict[str, str], *downloads: dict[str, Any], **more: Any) -> None:
    content = yaml.safe_load(TINY_DEFINITION) | {"access": "direct", "aliases": ["Little"]} | more
    content["downloads"] = list(downloads)
    path = Path(folders["MSER_DEFINITIONS"], f"{content['name']}.yaml")
    path.write_text(yaml.safe_dump(content), encoding="utf-8")


def command(folders: dict[str, str], *arguments: str) -> Result:
    return CliRunner().invoke(main, arguments, env=folders)


def test_a_downloaded_corpus_is_listed_by_the_next_command(
    server: Server, folders: dict[str, str], corpora: Path
) -> None:
    recordings = {path.relative_to(corpora / "tiny").as_posix(): path.read_bytes() for path in corpora.rglob("*.wav")}
    folders["MSER_CORPORA"] = str(corpora.parent / "new")
    define(folders, listed(server.serve("x.zip", zipped(recordings))))
    done = command(folders, "download", "--corpus", "little")
    assert done.exit_code == 0, done.output
    assert done.output.index("Licence: none") < done.output.index("downloaded")
    assert "To be cited" in done.output
    made = command(folders, "manifest", "--language", "de")
    assert made.exit_code == 0, made.output
    assert (Path(folders["MSER_HOME"]) / "manifests" / "tiny.csv").is_file()
    assert "rejected, with reasons" not in made.output
    again = command(folders, "download", "--corpus", "tiny")
    assert again.exit_code == 0
    assert "already there" in again.output


def test_the_exit_code_tells_a_failed_link_from_work_by_hand(server: Server, folders: dict[str, str]) -> None:
    define(folders, {**listed(server.serve("x.zip", b"x")), "url": server.url("gone.zip")})
    define(folders, name="onform", access="form")
    assert command(folders, "download", "--corpus", "onform").exit_code == 0
    both = command(folders, "download", "--corpus", "onform, tiny")
    assert both.exit_code == 1
    assert "the server answers 404" in both.output
    assert "by hand" in both.output


def test_a_wrong_request_says_what_is_right(server: Server, folders: dict[str, str]) -> None:
    define(folders)
    define(folders, name="small", aliases=[], language="it")
    for arguments, said in [
        ([], "make download LANG=de"),
        (["--corpus", "tinny"], "tiny"),
        (["--language", "it", "--corpus", "tiny"], "No corpus 'tiny' is defined for it"),
        (["--language", "xx"], "No corpus of language 'xx' is defined"),
    ]:
        done = command(folders, "download", *arguments)
        assert done.exit_code == 1
        assert said in done.output

"""What goes to a hub and what does not: against an API that remembers, and a server on this machine."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from huggingface_hub import HfApi, errors

from mser.cli import main
from mser.config import read_json, write_json
from mser.errors import ConfigError, RunError
from mser.hub import push as module
from mser.hub.push import files_of, push

#: The library takes no other host's address in an answer.
URL = "https://huggingface.co/org/toy"
NAMES = ["README.md", "config.json", "model-de.safetensors", "model-it.safetensors", "head-de.onnx"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run with all that runs leave."""
    folder = tmp_path / "work" / "runs" / "toy"
    (folder / "fixed" / "de").mkdir(parents=True)
    config = {"upstreams": [f"{tmp_path}/weights/whisper", "acoustic"], "settings": {"published": f"{tmp_path}/emobox"}}
    write_json(folder / "config.json", {**config, "fingerprint": "1234"})
    (folder / "README.md").write_text("---\nlicense: other\n---\n\n# A card\n", encoding="utf-8")
    for name in (*NAMES[2:], "fixed/de/f1-seed0.safetensors", ".model-de.safetensors.1.partial"):
        (folder / name).write_bytes(name.encode())
    for name in ("fixed/de/f1-seed0.json", "calibration/fixed/de/f1.json", "timings.json"):
        write_json(folder / name, {"utterance_ids": ["secret"]})
    return folder


class Remembering:
    """An API that keeps what it is told; ``private`` is how the repository was before."""

    def __init__(self, private: bool = True) -> None:
        self.private = private
        self.made: dict[str, Any] = {}
        self.content: dict[str, bytes] = {}
        self.asked: dict[str, Any] = {}

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> None:
        self.made = {"repo_id": repo_id, "private": private, "exist_ok": exist_ok}

    def repo_info(self, repo_id: str) -> SimpleNamespace:
        return SimpleNamespace(private=self.private)

    def upload_folder(self, *, repo_id: str, folder_path: str, **asked: Any) -> SimpleNamespace:
        folder = Path(folder_path)
        self.content = {
            path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
        }
        self.asked = {"folder": folder, **asked}
        return SimpleNamespace(commit_url=f"https://hub/{repo_id}/commit/1")


def test_models_config_and_card_go_and_nothing_else(run: Path, tmp_path: Path) -> None:
    api = Remembering()
    assert push(files_of(run), "org/toy", False, "A run", api) == "https://hub/org/toy/commit/1"
    assert api.made == {"repo_id": "org/toy", "private": True, "exist_ok": True}
    assert sorted(api.content) == sorted(NAMES)
    assert api.content["model-it.safetensors"] == b"model-it.safetensors"
    assert api.asked["commit_message"] == "A run"
    assert api.asked["delete_patterns"] == ["model*.safetensors", "head-*.onnx"]
    assert not api.asked["folder"].exists()
    config = json.loads(api.content["config.json"])
    assert config == {"upstreams": ["whisper", "acoustic"], "settings": {"published": "emobox"}, "fingerprint": "1234"}
    assert all(str(tmp_path).encode() not in content for content in api.content.values())
    assert str(tmp_path) in read_json(run / "config.json")["upstreams"][0]


def test_predictions_go_only_when_asked_for_and_models_of_folds_never(run: Path) -> None:
    assert sorted(files_of(run, predictions=True)) == sorted(
        [*NAMES, "fixed/de/f1-seed0.json", "calibration/fixed/de/f1.json"]
    )


def test_a_public_repository_needs_to_be_asked_for(run: Path) -> None:
    api = Remembering(private=False)
    with pytest.raises(RunError, match="is public"):
        push(files_of(run), "org/toy", False, "", api)
    assert api.content == {}
    push(files_of(run), "org/toy", True, "", api)
    assert api.made["private"] is False
    assert sorted(api.content) == sorted(NAMES)


@pytest.mark.parametrize("name", ["toy", "org/", "a/b/c", "https://hub/org/toy", "org/to y", ""])
def test_names_that_no_repository_has_are_refused_before_anything_is_asked(run: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="ORG/NAME"):
        push(files_of(run), name, False, "", Remembering())


@pytest.mark.parametrize(
    ("lost", "said"),
    [("config.json", "config.json"), ("README.md", "mser-train report toy"), ("model-*.safetensors", "no model")],
)
def test_a_folder_that_is_no_finished_run_is_refused(run: Path, lost: str, said: str) -> None:
    for path in run.glob(lost):
        path.unlink()
    with pytest.raises(RunError, match=said):
        files_of(run)


@pytest.mark.parametrize(
    "error",
    [OSError("no route to host"), errors.LocalTokenNotFoundError("no token"), errors.OfflineModeIsEnabled("offline")],
)
def test_a_hub_that_does_not_answer_is_one_message(run: Path, error: Exception) -> None:
    api = Remembering()

    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    api.create_repo = fail  # type: ignore[method-assign]
    with pytest.raises(RunError, match="hf auth login") as caught:
        push(files_of(run), "org/toy", False, "", api)
    assert str(error) in str(caught.value)


def command(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["push-run", *arguments])


def test_a_dry_run_lists_what_would_go_and_asks_nobody(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> None:
        raise AssertionError("asked for the hub")

    monkeypatch.setattr("mser.hub.cli.hub_api", nobody)
    done = command("toy", "--home", str(run.parent.parent), "--to-hub", "org/toy", "--dry-run")
    assert done.exit_code == 0, done.output
    assert all(name in done.output for name in NAMES)
    assert "Nothing was sent" in done.output
    assert "f1-seed0" not in done.output
    done = command(str(run), "--to-hub", "org/toy", "--dry-run", "--predictions", "--public")
    assert "fixed/de/f1-seed0.json" in done.output
    assert "licences" in done.output


class Stub(BaseHTTPRequestHandler):
    """As much of a hub as a commit of small files needs."""

    requests: list[tuple[str, Any]]

    def do_GET(self) -> None:
        self.requests.append((self.path, None))
        if "/tree/" in self.path:
            self.answer([{"type": "file", "path": "model.safetensors", "oid": "0" * 40, "size": 3}])
        else:
            siblings = [{"rfilename": "model.safetensors"}]
            self.answer({"id": "org/toy", "private": True, "sha": "1" * 40, "siblings": siblings})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        lines = [json.loads(line) for line in body.splitlines() if line]
        self.requests.append((self.path, lines))
        if "/preupload/" in self.path:
            files = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in lines[0]["files"]]
            self.answer({"files": files})
        elif "/commit/" in self.path:
            self.answer({"success": True, "commitOid": "2" * 40, "commitUrl": f"{URL}/commit/{'2' * 40}"})
        elif "/create" in self.path:
            self.answer({"url": URL})
        else:
            self.answer({})

    def answer(self, content: Any) -> None:
        body = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing."""


@pytest.fixture
def server() -> Iterator[tuple[str, list[tuple[str, Any]]]]:
    """The address of a hub on this machine, and what it was asked."""
    asked: list[tuple[str, Any]] = []
    handler = type("Asked", (Stub,), {"requests": asked})
    own = HTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=own.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{own.server_port}", asked
    own.shutdown()
    own.server_close()
    thread.join()


def test_the_librarys_own_requests_hold_the_files(
    run: Path, server: tuple[str, list[tuple[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    address, asked = server
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("mser.hub.cli.hub_api", lambda: HfApi(endpoint=address, token="hf_test"))
    done = command(str(run), "--to-hub", "org/toy")
    assert done.exit_code == 0, done.output
    assert f"Pushed: {URL}/commit/2222" in done.output
    (created,) = [lines[0] for path, lines in asked if path.endswith("/repos/create")]
    assert (created["organization"], created["name"]) == ("org", "toy")
    assert created.get("visibility") == "private" or created.get("private") is True
    (commit,) = [lines for path, lines in asked if "/commit/" in path]
    sent = {one["value"]["path"]: base64.b64decode(one["value"]["content"]) for one in commit if one["key"] == "file"}
    assert sorted(sent) == sorted(NAMES)
    assert sent["head-de.onnx"] == b"head-de.onnx"
    assert [one["value"]["path"] for one in commit if one["key"] == "deletedFile"] == ["model.safetensors"]


def test_the_api_is_that_of_the_library() -> None:
    assert isinstance(module.hub_api(), HfApi)

"""The page in a browser: a clip dropped, what is shown of it, and that nothing of it goes elsewhere or stays."""

from __future__ import annotations

import gc
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
import pytest
import soundfile
from toy_runs import EMOTIONS, RATE, save_toy_run, tones, write_tones

ROOT = Path(__file__).resolve().parents[1]
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
MISSING = [name for name in ("gradio", "playwright") if find_spec(name) is None] + ([] if BROWSER else ["Chromium"])
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(bool(MISSING), reason=f"{' and '.join(MISSING)} not installed"),
]
#: Without these it would ask its maker's hosts for updates, which are no requests of the page.
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream",
)  # fmt: skip
#: Milliseconds that anything on the page may take on a busy machine.
PATIENCE = 120_000


@dataclass
class Server:
    """A page that is served by the command.

    Attributes:
        temporary: where its folder for uploads lies.
    """

    process: subprocess.Popen[str]
    url: str
    temporary: Path

    def uploads(self) -> list[Path]:
        """Every file in its folder for uploads."""
        (folder,) = self.temporary.glob("mser-serve-*")
        return [path for path in folder.rglob("*") if path.is_file()]


def started(home: Path, temporary: Path, *arguments: str) -> Server:
    """``mser serve`` on a free port, once it answers."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("MSER_", "GRADIO_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "mser", "serve", "--home", str(home), "--port", "0", "--device", "cpu", *arguments],
        cwd=ROOT,
        # Settings of a user's own pages count for nothing.
        env={**clean, "OMP_NUM_THREADS": "1", "TMPDIR": str(temporary), "GRADIO_ALLOWED_PATHS": "/"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = []
    for line in process.stderr:
        said.append(line)
        if found := re.search(r"http://\S+", line):
            return Server(process, found[0], temporary)
    raise AssertionError("".join(said))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home, temporary = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("temporary")
    save_toy_run(home / "runs" / "two")
    save_toy_run(home / "runs" / "third", languages=("ur",), temperature=None, seed=1)
    made = started(home, temporary, "--run", "two", "--megabytes", "1", "--seconds", "30")
    yield made
    made.process.kill()
    made.process.wait(30)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=BROWSER, args=list(QUIET))
        yield found
        found.close()


@pytest.fixture
def page(server: Server, browser: Any) -> Iterator[Any]:
    """The page, opened; fails where it asked another host for anything."""
    context = browser.new_context()
    context.set_default_timeout(PATIENCE)
    requests: list[str] = []
    context.on("request", lambda request: requests.append(request.url))
    opened = context.new_page()
    opened.goto(server.url)
    opened.wait_for_selector("#clip input[type=file]", state="attached")
    yield opened
    context.close()
    assert len(requests) > 10
    asked = {urlsplit(url)[:2] for url in requests if not url.startswith(("data:", "blob:"))}
    assert asked == {urlsplit(server.url)[:2]}


def drop(page: Any, path: Path) -> None:
    """Drops a file onto the page, as a hand would."""
    content = page.evaluate_handle(
        """([name, bytes]) => {
            const dropped = new DataTransfer();
            dropped.items.add(new File([new Uint8Array(bytes)], name, {type: "audio/wav"}));
            return dropped;
        }""",
        [path.name, list(path.read_bytes())],
    )
    page.dispatch_event("#clip button[aria-label*='Drop'], #clip button:has(input)", "drop", {"dataTransfer": content})


def test_a_dropped_clip_is_judged_and_explained_and_leaves_nothing(page: Any, server: Server, tmp_path: Path) -> None:
    drop(page, write_tones(tmp_path / "a clip.wav", 1.0))
    page.wait_for_selector("#explained img")
    assert "a clip.wav" in page.inner_text("#heard")
    for language in ("de", "it"):
        assert re.search(rf"^{language}: ({'|'.join(EMOTIONS)}), \d+ %$", page.inner_text("#judged"), re.MULTILINE)
    assert page.eval_on_selector("#explained img", "image => image.complete && image.naturalWidth > 0")
    assert page.eval_on_selector("#heard audio", "audio => audio.readyState > 0 && audio.duration > 0.9")
    assert server.uploads() == []
    # Another run, about the same clip: its files are gone, but it is remembered.
    page.get_by_label("Run").click()
    page.get_by_role("option", name="third").click()
    page.wait_for_function("() => document.querySelector('#judged').innerText.includes('ur: ')")
    assert "not calibrated" in page.inner_text("#judged")


def test_clips_that_cannot_be_judged_are_sentences_and_the_page_goes_on(
    page: Any, server: Server, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "long.wav", tones(31.0, 8000), 8000)
    (tmp_path / "text.wav").write_bytes(b"no sound here")
    for name, said in (("silent", "is silent"), ("long", "is too long: more than 30 s"), ("text", "cannot be decoded")):
        page.wait_for_selector("#clip input[type=file]", state="attached")
        page.set_input_files("#clip input[type=file]", tmp_path / f"{name}.wav")
        page.wait_for_selector(f"#message [role=alert]:has-text('{name}.wav {said}')")
        assert "Traceback" not in page.inner_text("body")
        assert server.uploads() == []
    page.wait_for_selector("#clip input[type=file]", state="attached")
    page.set_input_files("#clip input[type=file]", write_tones(tmp_path / "good.wav", 0.5))
    page.wait_for_selector("#explained img")
    assert page.query_selector("#message [role=alert]") is None
    assert server.uploads() == []


def test_a_file_that_is_too_large_is_refused_by_page_and_server(page: Any, server: Server, tmp_path: Path) -> None:
    page.set_input_files("#clip input[type=file]", write_tones(tmp_path / "large.wav", 29.0, 44_100))
    assert "At most 1 MB and 30 s" in page.inner_text("body")
    page.wait_for_selector("text=exceed the maximum allowed size of 1.0 Mb")
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    # Its promise alone is refused: not a byte of the file is taken.
    connection.putrequest("POST", "/gradio_api/upload")
    connection.putheader("Content-Length", str(3 * 2**20))
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, answer.read()) == (413, b"The file is too large: more than 1 MB.")
    assert server.uploads() == []


def test_a_long_clip_has_a_timeline_of_which_a_part_is_explained(page: Any, server: Server, tmp_path: Path) -> None:
    page.set_input_files("#clip input[type=file]", write_tones(tmp_path / "long.wav", 17.0))
    page.wait_for_selector("#explained img")
    assert page.eval_on_selector("#over-time img", "image => image.complete && image.naturalWidth > 0")
    assert "All 8 parts" in page.inner_text("#over-time")
    page.get_by_label("Explained: the answer of").click()
    page.get_by_role("option", name="it").click()
    page.wait_for_function("() => document.querySelector('#explained').innerText.includes('Language it: ')")
    page.get_by_label("Explained: the part").click()
    page.get_by_role("option", name="0:13.0 – 0:17.0").click()
    page.wait_for_selector("#explained img")
    assert server.uploads() == []


def test_a_clip_is_recorded(page: Any, server: Server) -> None:
    page.click("#clip button[aria-label='Record audio']")
    page.get_by_role("button", name="Record", exact=True).click()
    page.wait_for_timeout(1500)
    page.locator("#clip button:has-text('Stop'):visible").first.click()
    page.wait_for_selector("#explained img")
    assert server.uploads() == []


def fetched(server: Server, path: str, body: Any = None) -> tuple[int, str]:
    """Status and text of an answer; of a stream until a request is done."""
    address = urlsplit(server.url)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=60)
    content = None if body is None else json.dumps(body)
    connection.request("GET" if body is None else "POST", path, content, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    text = ""
    while line := answer.readline().decode():
        text += line
        if "process_completed" in line:
            break
    return answer.status, text


@pytest.mark.parametrize("place", ["elsewhere", "workplace", "other host"])
def test_files_that_were_not_uploaded_are_neither_judged_nor_given_out(
    server: Server, tmp_path: Path, place: str
) -> None:
    secret = str(write_tones(tmp_path / "secret.wav", 0.5)) if place == "elsewhere" else str(ROOT / "setup.cfg")
    if place == "other host":
        secret = "http://192.0.2.1/secret.wav"
    else:
        assert fetched(server, f"/gradio_api/file={secret}")[0] == 403
    page = json.loads(fetched(server, "/config")[1])
    dropped = next(one["id"] for one in page["dependencies"] if "upload" in dict(map(reversed, one["targets"])))
    clip = {"path": secret, "meta": {"_type": "gradio.FileData"}}
    asked = {"data": [clip, "two", ["de"]], "fn_index": dropped, "session_hash": f"stranger {place}"}
    assert fetched(server, "/gradio_api/queue/join", asked)[0] == 200
    _, told = fetched(server, f"/gradio_api/queue/data?session_hash={quote(asked['session_hash'])}")
    assert '"success":false' in told
    assert "secret" not in told
    assert "setup.cfg" not in told
    assert server.uploads() == []


def test_a_port_that_is_taken_and_a_host_that_is_not_here_are_named(server: Server) -> None:
    from mser.errors import ConfigError
    from mser.serve.server import address, bound

    with pytest.raises(ConfigError, match="--port"):
        bound("127.0.0.1", urlsplit(server.url).port or 0)
    with pytest.raises(ConfigError, match=r"192\.0\.2\.1"):
        bound("192.0.2.1", 0)
    with bound("127.0.0.1", 0) as listening:
        assert address(listening) == f"http://127.0.0.1:{listening.getsockname()[1]}/"
        socket.create_connection(listening.getsockname()).close()


def test_a_closed_page_leaves_its_clip_in_no_memory(
    browser: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    monkeypatch.setenv("GRADIO_ANALYTICS_ENABLED", "False")
    (tmp_path / "uploads").mkdir()
    from mser.predict.recording import Recording
    from mser.serve.page import application
    from mser.serve.runs import read_run
    from mser.serve.server import address, bound
    from mser.serve.service import Service
    from mser.serve.uploads import Uploads

    run = read_run(save_toy_run(tmp_path / "two"))
    service = Service({"two": run}, Uploads(tmp_path / "uploads"), device="cpu")
    listening = bound("127.0.0.1", 0)
    server = uvicorn_server(application(service))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        opened = browser.new_page()
        opened.goto(address(listening))
        opened.set_input_files("#clip input[type=file]", write_tones(tmp_path / "clip.wav", 0.5))
        opened.wait_for_selector("#explained img", timeout=PATIENCE)
        assert remembered_clips(Recording) == ["clip.wav"]
        opened.close()
        deadline = time.monotonic() + PATIENCE / 1000
        while remembered_clips(Recording) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert remembered_clips(Recording) == []
    finally:
        server.should_exit = True
        thread.join(300)


def uvicorn_server(application: Any) -> Any:
    import uvicorn

    return uvicorn.Server(uvicorn.Config(application, log_level="error", timeout_graceful_shutdown=1, ws="none"))


def remembered_clips(kind: type) -> list[str]:
    """The names of all recordings that anything in this process holds."""
    gc.collect()
    return sorted({one.name for one in gc.get_objects() if type(one) is kind})


def test_a_signal_ends_the_server_and_nothing_stays(server: Server, page: Any, tmp_path: Path) -> None:
    assert len(list(server.temporary.glob("mser-serve-*"))) == 1
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(300) == 0
    assert list(server.temporary.iterdir()) == []
    assert server.process.stderr is not None
    said = server.process.stderr.read()
    assert "No clip was kept." in said
    # Connections that the end cut are no errors.
    assert "Cancel" not in said

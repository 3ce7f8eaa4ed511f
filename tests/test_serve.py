"""The page's answers without the page: what is shown, what is refused, what is kept, and for how long."""

from __future__ import annotations

import asyncio
import html
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from toy_runs import EMOTIONS, RATE, save_toy_run, tones, write_tones

from mser.audio import scan_pcm
from mser.config import Workspace
from mser.errors import AudioError, ConfigError, RunError
from mser.predict.recognizer import Recognizer, spans
from mser.predict.recording import Recording
from mser.serve.guard import OVERHEAD, Guard, is_loopback
from mser.serve.runs import read_run, runs_of
from mser.serve.service import KEPT_RUNS, Limits, Service, Shown
from mser.serve.uploads import GIVEN_UP, Uploads
from mser.serve.view import message

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a run of two languages, and one of a third without calibration."""
    folder = tmp_path_factory.mktemp("home")
    save_toy_run(folder / "runs" / "two")
    save_toy_run(folder / "runs" / "third", languages=("ur",), temperature=None, seed=1)
    os.utime(folder / "runs" / "two")
    return folder


@pytest.fixture
def service(home: Path, tmp_path: Path) -> Service:
    (tmp_path / "uploads").mkdir()
    runs, _ = runs_of(Workspace(home))
    return Service(runs, Uploads(tmp_path / "uploads"), device="cpu", limits=Limits(1.0, 40.0))


def uploaded(service: Service, name: str, samples: np.ndarray | bytes, rate: int = RATE) -> Path:
    """A file where the page's server puts it."""
    path = service.uploads.folder / "0123abcd" / name
    path.parent.mkdir(exist_ok=True)
    if isinstance(samples, bytes):
        path.write_bytes(samples)
    else:
        soundfile.write(path, samples, rate)
    return path


def left(service: Service) -> list[Path]:
    return list(service.uploads.folder.rglob("*"))


def percents(shown: str) -> dict[str, int]:
    """Name -> percent of each bar."""
    rows = re.findall(r"<dt><span>(.*?)</span></dt>.*?mser-number\">(\d+) %", shown)
    return {html.unescape(name): int(number) for name, number in rows}


def test_a_clip_is_shown_then_judged_then_explained_and_its_file_is_gone(service: Service, home: Path) -> None:
    steps = service.dropped(uploaded(service, "a.wav", tones(2.0)), "two", ["de", "it"])
    first = next(steps)
    assert left(service) == []
    assert "a.wav" in first.clip
    assert 'src="data:audio/wav;base64,' in first.clip
    assert (first.judged, first.explained) == ("", "")
    second, third = steps
    recognizer = Recognizer.from_run(home / "runs" / "two", device="cpu")
    clip = service.uploads.folder / "b.wav"
    soundfile.write(clip, tones(2.0), RATE)
    for language, card in zip(("de", "it"), second.judged.split("<section")[1:], strict=True):
        (answer,) = recognizer.answers(Recording.of_file(clip), [language])
        assert f"{language}: {answer.emotion}, {100 * answer.confidence:.0f} %" in card
        told = percents(card)
        assert {name: told[name] for name in EMOTIONS} == {
            name: round(100 * float(share)) for name, share in zip(EMOTIONS, answer.probabilities, strict=True)
        }
        assert {name: told[name] for name in answer.experts} == {
            name: round(100 * float(share)) for name, share in zip(answer.experts, answer.gate, strict=True)
        }
    assert second.explained == ""
    assert "data:image/png;base64," in third.explained
    assert "Language de: " in third.explained
    assert (third.languages, third.language, third.parts, third.over_time) == (("de", "it"), "de", (), "")
    other = service.explained(third, "two", "it", None)
    assert "Language it: " in other.explained
    assert (other.judged, other.language) == (third.judged, "it")


def test_a_long_recording_is_judged_in_parts_the_surest_of_which_is_explained(service: Service) -> None:
    *_, shown = service.dropped(uploaded(service, "long.flac", tones(17.0)), "two", ["de", "it"])
    cut = spans(17.0, 4.0, 2.0)
    assert len(shown.parts) == len(cut) == 8
    assert shown.parts[-1] == "0:13.0 – 0:17.0"
    assert shown.over_time.count("<tr>") == 1 + len(cut)
    rows = re.findall(r"<td>\w+ (\d+) %</td><td>\w+ \d+ %</td></tr>", shown.over_time)
    assert int(rows[shown.place or 0]) == max(map(int, rows))
    assert "of 8 parts" in shown.judged
    other = service.explained(shown, "two", "it", 3)
    assert (other.place, other.message) == (3, "")
    assert "Language it: " in other.explained


@pytest.mark.parametrize(
    ("samples", "rate", "said"),
    [
        (np.zeros(RATE, dtype=np.float32), RATE, "bad.wav is silent: every sample is zero."),
        (tones(0.05), RATE, "bad.wav is too short: 0.05 s, and at least 0.1 s are needed."),
        (b"no sound here", RATE, "bad.wav cannot be decoded"),
        (b"", RATE, "bad.wav cannot be decoded"),
        (tones(41.0, 8000), 8000, "bad.wav is too long: more than 40 s."),
        (b"\0" * (2**20 + 1), RATE, "bad.wav is too large: more than 1 MB."),
        (tones(1.0), 2000, "bad.wav has a sample rate of 2000 Hz"),
    ],
    ids=["silence", "too short", "no sound", "empty", "too long", "too large", "2000 Hz"],
)
def test_what_cannot_be_judged_is_a_sentence_and_the_next_clip_is_judged(
    service: Service, samples: np.ndarray | bytes, rate: int, said: str
) -> None:
    (shown,) = service.dropped(uploaded(service, "bad.wav", samples, rate), "two", ["de"])
    text = html.unescape(re.sub("<.*?>", "", shown.message))
    assert text.startswith(said)
    assert "Traceback" not in text
    assert str(service.uploads.folder) not in text
    assert left(service) == []
    assert shown.recording is None
    *_, shown = service.dropped(uploaded(service, "good.wav", tones(0.5)), "two", ["de"])
    assert (shown.message, bool(shown.judged), bool(shown.explained)) == ("", True, True)


def test_further_questions_need_no_further_upload(service: Service) -> None:
    *_, shown = service.dropped(uploaded(service, "a.wav", tones(1.0)), "two", ["de"])
    assert shown.recording is not None
    *_, again = service.judged(shown.recording, "third", ["ur"])
    assert "ur: " in again.judged
    assert "not calibrated" in again.judged
    assert "not calibrated" not in shown.judged
    *_, none = service.judged(shown.recording, "two", [])
    assert "No language is chosen." in none.message
    assert none.clip == shown.clip
    service.forget(again)
    assert service._heard is None
    assert service.explained(Shown(), "two", "de", None) == Shown()


def test_what_a_file_is_called_is_text(service: Service) -> None:
    *_, shown = service.dropped(uploaded(service, "<img src=x>&.wav", tones(0.5)), "two", ["de"])
    assert "&lt;img src=x&gt;&amp;.wav" in shown.clip
    assert "<img src=x" not in shown.clip + shown.explained
    assert "<b>" not in message(ConfigError("A <b> is wrong.", hint="<b>"), "x")


def test_models_are_loaded_once_a_run_and_again_once_it_is_trained_anew(
    service: Service, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, loaded = Recognizer.from_run, []

    def counted(path: Path, *rest: Any) -> Recognizer:
        loaded.append(path.name)
        time.sleep(0.05)
        return load(path, *rest)

    monkeypatch.setattr(Recognizer, "from_run", counted)
    threads = [threading.Thread(target=service.recognizer, args=("two",)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert loaded == ["two"]
    save_toy_run(home / "runs" / "two", seed=2)
    first = service.recognizer("two")
    assert service.recognizer("two") is first
    assert loaded == ["two", "two"]
    service.runs |= {str(number): service.runs["third"] for number in range(KEPT_RUNS)}
    for number in range(KEPT_RUNS):
        service.recognizer(str(number))
    assert len(service._recognizers) == KEPT_RUNS
    assert service.recognizer("two") is not first


def test_requests_wait_for_each_other(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    service.recognizer("two")
    busy, most = 0, 0
    judge = Recognizer.judge

    def watched(self: Recognizer, *rest: Any) -> Any:
        nonlocal busy, most
        busy += 1
        most = max(most, busy)
        time.sleep(0.01)
        found = judge(self, *rest)
        busy -= 1
        return found

    monkeypatch.setattr(Recognizer, "judge", watched)
    shown: list[Shown] = []

    def ask(number: int) -> None:
        recording = Recording.of_samples(tones(0.5, seed=number), RATE, f"clip {number}")
        shown.append([*service.judged(recording, "two", ["de"])][-1])

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1
    assert sorted(re.findall(r"clip \d", "".join(one.clip for one in shown))) == ["clip 0", "clip 1", "clip 2"]
    assert all(one.explained for one in shown)


def test_a_run_that_cannot_be_loaded_is_a_sentence(service: Service, tmp_path: Path) -> None:
    gone = save_toy_run(tmp_path / "gone", languages=("de",))
    service.runs["gone"] = read_run(gone)
    (gone / "model-de.safetensors").unlink()
    *_, shown = service.dropped(uploaded(service, "a.wav", tones(0.5)), "gone", ["de"])
    assert "There is no model for use." in shown.message
    assert str(tmp_path) not in shown.message
    assert "a.wav" in shown.clip


def test_runs_are_those_with_models_and_the_chosen_one_comes_first(home: Path, tmp_path: Path) -> None:
    runs, troubles = runs_of(Workspace(home))
    assert troubles == []
    assert list(runs) == ["two", "third"]
    assert (runs["two"].languages, runs["two"].upstreams) == (("de", "it"), ("mfcc", "prosody"))
    assert runs["two"].made_of == "fixed on mfcc, prosody"
    assert list(runs_of(Workspace(home), home / "runs" / "third")[0]) == ["third", "two"]
    single = home / "runs" / "two" / "model-it.safetensors"
    runs, _ = runs_of(Workspace(home), single)
    assert next(iter(runs)) == "two/model-it.safetensors"
    assert next(iter(runs.values())).languages == ("it",)
    elsewhere = save_toy_run(tmp_path / "two", languages=("fr",))
    runs, _ = runs_of(Workspace(home), elsewhere)
    assert [run.languages for run in runs.values()] == [("fr",), ("de", "it"), ("ur",)]


def test_runs_that_cannot_be_offered_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="make train"):
        runs_of(Workspace(tmp_path))
    save_toy_run(tmp_path / "runs" / "good", languages=("de",))
    (tmp_path / "runs" / "bad").mkdir()
    (tmp_path / "runs" / "bad" / "model.safetensors").write_bytes(b"damaged")
    (tmp_path / "runs" / "untrained").mkdir()
    runs, troubles = runs_of(Workspace(tmp_path))
    assert list(runs) == ["good"]
    assert [str(one.file) for one in troubles] == [str(tmp_path / "runs" / "bad" / "model.safetensors")]
    with pytest.raises(RunError, match="cannot be read"):
        runs_of(Workspace(tmp_path), tmp_path / "runs" / "bad")


@pytest.mark.parametrize(("rate", "channels"), [(RATE, 1), (44_100, 2), (8_000, 1)])
def test_a_recording_in_memory_is_the_file_to_the_bit(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([tones(0.7, rate, seed) for seed in range(channels)], axis=1), rate)
    recording = Recording.of_file(path)
    held = Recording.of_file(path).in_memory()
    expected = {asked: recording.at(asked).numpy() for asked in (8_000, RATE, 44_100)}
    path.unlink()
    assert (held.name, held.seconds, held.sample_rate) == (recording.name, recording.seconds, rate)
    for asked, samples in expected.items():
        np.testing.assert_array_equal(held.at(asked).numpy(), samples)


def test_no_more_than_the_longest_is_decoded(tmp_path: Path) -> None:
    path = write_tones(tmp_path / "a.wav", 2.0)
    assert scan_pcm(path, 2.0).num_samples == 2 * RATE
    with pytest.raises(AudioError, match=r"too long: more than 1\.9 s"):
        scan_pcm(path, 1.9)


def test_answers_from_states_that_were_heard_are_the_same(home: Path) -> None:
    recognizer = Recognizer.from_run(home / "runs" / "two", device="cpu")
    recording = Recording.of_samples(tones(1.3), RATE)
    plain = recognizer.answers(recording)
    heard = recognizer.answers(recording, heard=recognizer.hear(recording))
    for one, other in zip(plain, heard, strict=True):
        np.testing.assert_array_equal(one.probabilities, other.probabilities)


def test_uploads_are_removed_with_those_that_were_given_up_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "uploads").mkdir()
    outside = write_tones(tmp_path / "outside.wav", 0.2)
    uploads = Uploads(tmp_path / "uploads")
    paths = {name: uploads.folder / name / "clip.wav" for name in ("own", "old", "new")}
    for path in paths.values():
        path.parent.mkdir()
        path.write_bytes(b"x")
    (uploads.folder / "partial").write_bytes(b"x")
    for path in (paths["old"], uploads.folder / "partial"):
        os.utime(path, times=(0, time.time() - GIVEN_UP - 1))
    with pytest.raises(AudioError), uploads.taken(paths["own"]):
        raise AudioError("is bad")
    assert {path for path in uploads.folder.rglob("*") if path.is_file()} == {paths["new"]}
    assert not paths["own"].parent.exists()
    with uploads.taken(outside):
        pass
    assert outside.exists()
    with uploads.taken(uploads.folder / ".." / "outside.wav"):
        pass
    assert outside.exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_folder_of_uploads_goes_with_the_program(tmp_path: Path, number: signal.Signals) -> None:
    program = (
        "import time\nfrom mser.serve.uploads import temporary_uploads\n"
        "with temporary_uploads() as uploads:\n"
        "    (uploads.folder / 'a' ).mkdir()\n    (uploads.folder / 'a' / 'clip.wav').write_bytes(b'x')\n"
        "    print('ready', flush=True)\n    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # A shell in the background has SIGINT ignored, and its children, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    assert len(list(tmp_path.glob("mser-serve-*/a/clip.wav"))) == 1
    process.send_signal(number)
    process.wait(300)
    assert list(tmp_path.iterdir()) == []


async def page(scope: Any, receive: Any, send: Any) -> None:
    """An application that answers everything, and wants its answers kept."""
    headers = [(b"Cache-Control", b"max-age=1000"), (b"content-type", b"text/html")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"page"})


def asked(guard: Guard, method: str = "GET", path: str = "/", kind: str = "http", **headers: str) -> tuple[int, dict]:
    """Status and headers of the answer to a request."""
    sent: list[Any] = []

    async def send(event: Any) -> None:
        sent.append(event)

    async def receive() -> Any:
        return {"type": "http.request", "body": b""}

    named = {"host": "127.0.0.1:7860", **{name.replace("_", "-"): value for name, value in headers.items()}}
    scope = {
        "type": kind,
        "method": method,
        "path": path,
        "headers": [(name.encode(), value.encode()) for name, value in named.items()],
    }
    asyncio.run(guard(scope, receive, send))
    if kind != "http":
        return sent[0]["code"], {}
    return sent[0]["status"], {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}


def test_only_the_page_itself_may_ask() -> None:
    local, opened = Guard(page, 1000, local=True), Guard(page, 1000, local=False)
    for host in ("127.0.0.1:7860", "localhost:7860", "[::1]:7860", "127.0.0.1"):
        assert asked(local, host=host)[0] == 200
        assert asked(local, host=host, origin=f"http://{host}")[0] == 200
    # Another site's name that points here, and another site's page.
    assert asked(local, host="evil.example:7860")[0] == 403
    assert asked(opened, host="evil.example:7860")[0] == 200
    for guard in (local, opened):
        for origin in ("https://evil.example", "null", "http://127.0.0.1:1234"):
            assert asked(guard, origin=origin)[0] == 403
        assert asked(guard, kind="websocket")[0] == 1008


def test_requests_are_no_larger_than_a_clip() -> None:
    guard = Guard(page, 1000, local=True)
    assert asked(guard, "POST", content_length=str(1000 + OVERHEAD))[0] == 200
    assert asked(guard, "POST", content_length=str(1001 + OVERHEAD))[0] == 413
    assert asked(guard, "POST", transfer_encoding="chunked")[0] == 411
    assert asked(guard, "POST", content_length="-1")[0] == 411


def test_browsers_ask_no_other_host_and_keep_no_answer() -> None:
    guard = Guard(page, 1000, local=True)
    _, headers = asked(guard)
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert not re.search(r"https?:|\*", policy)
    assert headers["cache-control"] == "no-store"
    assert asked(guard, path="/assets/index.js")[1]["cache-control"] == "max-age=1000"
    assert "content-security-policy" in asked(guard, host="evil.example")[1]


@pytest.mark.parametrize("host", ["192.168.0.4", "0.0.0.0", "::", "example.org", "127.0.0.1.example.org", ""])
def test_other_hosts_are_not_this_machine(host: str) -> None:
    assert not is_loopback(host)


def test_the_server_connects_to_no_other_host() -> None:
    program = """
import socket
from mser.serve.guard import refuse_other_hosts
refuse_other_hosts()
listening = socket.create_server(("127.0.0.1", 0))
socket.create_connection(listening.getsockname()).close()
socket.getaddrinfo(None, 80)
for attempt in (
    lambda: socket.create_connection(("192.0.2.1", 80), timeout=1),
    lambda: socket.getaddrinfo("example.org", 80),
    lambda: socket.gethostbyname("example.org"),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53)),
):
    try:
        attempt()
    except ConnectionRefusedError as error:
        assert "no other host" in str(error), error
    else:
        raise SystemExit("it was let through")
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def served(home: Path, *arguments: str, prelude: str = "") -> subprocess.CompletedProcess[str]:
    """The command, which has to end by itself."""
    program = f"import sys\n{prelude}\nfrom mser.cli import main\nmain(['serve', *sys.argv[1:]])"
    return subprocess.run(
        [sys.executable, "-c", program, "--home", str(home), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )


def test_without_its_library_the_page_says_what_to_install(home: Path) -> None:
    done = served(home, prelude="sys.modules['gradio'] = None")
    assert done.returncode == 1
    assert 'pip install "mser[serve]"' in done.stderr
    assert "Traceback" not in done.stderr

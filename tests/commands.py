"""Commands of both stages run as a user would, for the tests of the whole pipeline."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
QUICK = {"EPOCHS": "4", "SEARCH_EPOCHS": "2", "CANDIDATES": "2", "SEEDS": "0 1", "WORKERS": "2", "FEATURES": "frames"}


def run(module: str, *arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Runs one command as a user would, in an environment without a hub."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MSER_")}
    if module == "extract":  # by itself: a cluster takes longer to start than these corpora to extract
        environment = {**environment, "WORKERS": "0"}
    # One thread a process: the models are tiny, and tests share the machine.
    clean |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], env=clean, capture_output=True, text=True, timeout=400, check=False
    )


def must(module: str, *arguments: str, environment: dict[str, str]) -> str:
    done = run(module, *arguments, environment=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def results_of(workspace: Path) -> dict:
    (path,) = (workspace / "reports").glob("*/results.json")
    return json.loads(path.read_text(encoding="utf-8"))

"""Work in a process of its own, ended in every way."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from engines_that_die import dies, tells

from helpers.processes import Ended, Told, apart

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize(
    ("way", "told"),
    [
        ("exits", "code 1"),
        ("is killed", "SIGKILL"),
        ("an error", "ValueError: told in two lines"),
        ("of another class", "Panic: oh"),
        ("SystemExit", "SystemExit: 15"),
        ("KeyboardInterrupt", "^KeyboardInterrupt$"),
        ("long", "the end$"),
    ],
)
def test_every_end_is_told(way, told):
    got = []
    with pytest.raises(Ended, match=told):
        for one in apart(dies, way):
            got.append(one)
    assert got == [1, 2]


def test_the_works_own_words_arrive():
    with pytest.raises(Told, match=r"^The cluster is away\. Start it\.$"):
        list(apart(tells))


def test_an_error_after_the_last_word_does_not_count():
    assert list(apart(dies, "a late error")) == [1, 2]


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_what_the_process_started_ends_with_it(tmp_path):
    with pytest.raises(Ended):
        list(apart(dies, "leaves a child", str(tmp_path)))
    assert gone(int((tmp_path / "child").read_text()))


def test_whoever_stops_listening_ends_the_process():
    work = apart(dies, "stands still")
    assert [next(work), next(work)] == [1, 2]
    before = [child for child in psutil.Process().children() if "processes.py" in " ".join(child.cmdline())]
    work.close()
    assert before and not any(child.is_running() for child in before)


def test_the_process_ends_with_its_parent():
    """Killed where it cannot tidy up: nothing goes on behind its back."""
    code = f"""
import importlib.util
from engines_that_die import dies
spec = importlib.util.spec_from_file_location("processes", {str(ROOT / "helpers" / "processes.py")!r})
processes = importlib.util.module_from_spec(spec)
spec.loader.exec_module(processes)
for one in processes.apart(dies, "stands still"):
    print(one, flush=True)
"""  # not imported from helpers, which would bring torch
    environment = os.environ | {"PYTHONPATH": str(ROOT / "tests")}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    assert [parent.stdout.readline() for _ in range(2)] == ["1\n", "2\n"]
    below = psutil.Process(parent.pid).children(recursive=True)
    assert below
    parent.send_signal(signal.SIGKILL)
    parent.communicate()
    assert all(gone(child.pid) for child in below)

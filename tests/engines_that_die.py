"""Work for `helpers.processes.apart` that ends in every way. Nothing large is imported: each runs in a new process."""

import atexit
import os
import signal
import subprocess
import sys
import time
from pathlib import Path


class Panic(BaseException):
    """As Rust code raises it: no Exception."""


def dies(way: str, folder: str = ""):
    """Two results, then an end."""
    yield 1
    yield 2
    if way == "exits":  # as Ray's C++ part does when its server has died
        os._exit(1)
    if way == "is killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if way == "stands still":
        time.sleep(600)
    if way == "leaves a child":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(folder, "child").write_text(str(child.pid))
        time.sleep(2)  # the parent looks once a second
        os._exit(1)
    if way == "a late error":
        atexit.register(os._exit, 7)
        return
    raises = {
        "an error": ValueError("told\nin two lines"),
        "of another class": Panic("oh"),
        "SystemExit": SystemExit(15),
        "KeyboardInterrupt": KeyboardInterrupt(),
        "long": ValueError("x" * 1000 + " the end"),
    }
    raise raises[way]


class OwnWords(Exception):
    in_own_words = True


def tells():
    yield 1
    raise OwnWords("The cluster is away. Start it.")

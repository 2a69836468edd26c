"""Work in a process of its own: however that ends, the process that asked for it lives on and can say so.

For libraries that may end the process they run in, without an exception: Ray's C++ part does when its own server has
died. The new process runs this file as a script, so that it imports no more than its work does.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from typing import Any

import psutil

LOOK = 1.0
"""Seconds between two looks at which processes the new one has started."""
GRACE = 30.0
"""Seconds that it gets to tidy up after its last word; then it is killed."""


class Ended(RuntimeError):
    """The process did not come to its end; the message is how it ended."""


class Told(RuntimeError):
    """Raised by the work for what it has its own words for: these arrive unchanged, as a `Told`."""

    in_own_words = True  # known by this: the script's `Told` is another class than that of the package


def apart(work: Callable[..., Iterable[Any]], *arguments: Any) -> Generator[Any, None, None]:
    """What `work(*arguments)` yields, made in a new process. What it prints goes to stderr.

    When this generator ends, by whatever way, neither that process nor any that it started on this machine is left.

    Args:
        work: a function that a new process can import.
        arguments: for it; they and what it yields are pickled.

    Raises:
        Ended: an exception of any kind in there, or the end of the process.
        Told: raised by the work itself.
    """
    job = pickle.dumps((work, arguments))
    process = subprocess.Popen([sys.executable, "-P", __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    family: set[psutil.Process] = set()
    over = threading.Event()
    looking = threading.Thread(target=_look, args=(process.pid, family, over), daemon=True)
    looking.start()
    patience = 0.0
    try:
        while True:
            kind, what = "", None
            with suppress(EOFError, OSError, pickle.UnpicklingError):  # it ended, maybe in the middle of a message
                if job and process.stdin:
                    pickle.dump(sys.path, process.stdin)
                    pickle.dump(job, process.stdin)
                    process.stdin.flush()
                    job = b""
                kind, what = pickle.load(process.stdout)  # type: ignore[arg-type]
            if kind == "one":
                yield what
                continue
            patience = GRACE
            if kind == "end":
                return
            if kind == "told":
                raise Told(what)
            if kind == "error":
                raise Ended(what)
            with suppress(subprocess.TimeoutExpired):
                process.wait(GRACE)
            raise Ended(_how(process.returncode))
    finally:
        for stop, wait in ((None, patience), (process.terminate, GRACE / 3), (process.kill, GRACE)):
            if stop:
                stop()
            with suppress(subprocess.TimeoutExpired):  # a fault or a standstill in tidying up does not count any more
                process.wait(wait)
                break
        over.set()
        looking.join()
        for one in family:
            with suppress(psutil.Error):
                one.kill()
        psutil.wait_procs(family, timeout=GRACE / 3)
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                pipe.close()  # type: ignore[union-attr]


def _look(pid: int, family: set[psutil.Process], over: threading.Event) -> None:
    """Who descends from `pid`: once it has ended, nobody can tell any more."""
    while not over.wait(LOOK):
        with suppress(psutil.Error):
            family |= set(psutil.Process(pid).children(recursive=True))


def _how(code: int | None) -> str:
    if code is None:
        return "its process does not answer"
    if code < 0:
        with suppress(ValueError):
            return f"its process was killed by {signal.Signals(-code).name}"
    return f"its process ended with code {code}, without a word"


# --- in the new process -----------------------------------------------------------------------------------------------


def _serve() -> None:
    """Work for the parent: the job from stdin, the results to what was stdout."""
    jobs, results = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(2, 1)  # so that a library's prints are no results

    def tell(kind: str, what: Any) -> None:
        results.write(pickle.dumps((kind, what)))
        results.flush()

    def end_with_parent() -> None:
        jobs.read()  # ends with whoever holds the other end: it may be killed where it cannot tidy up
        os._exit(1)  # and then nothing may go on writing

    try:
        sys.path[:] = pickle.load(jobs)
        job = pickle.load(jobs)
        threading.Thread(target=end_with_parent, daemon=True).start()
        work, arguments = pickle.loads(job)
        for one in work(*arguments):
            tell("one", one)
        last = ("end", "")
    except BaseException as error:  # a panic of Rust code and SystemExit are no Exception
        said = str(error)
        if not getattr(error, "in_own_words", False):
            said = " ".join(said.split())
            said = f"{type(error).__name__}: {'…' * (len(said) > 300)}{said[-300:]}".rstrip(": ")
        last = ("told" if getattr(error, "in_own_words", False) else "error", said)
    with suppress(OSError):
        tell(*last)


if __name__ == "__main__":
    _serve()

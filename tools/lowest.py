"""Test with the lowest versions that pyproject.toml allows: `make test-lowest`.

uv resolves them (`--resolution lowest-direct`) and installs them into build/lowest. torch stays the installed version,
since older ones bring gigabytes of CUDA on Linux; pip installs it, which knows where this machine has its CPU build.

What runs: notebooks 01 to 06, without comparing their outputs, which are those of the versions in constraints.txt; and
the unit tests of what calls the required packages. Those that an older package cannot make fail are left out; which
they are, and why, stands in `LEFT_OUT`. A new test file runs here until it is named there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "lowest"
LEFT_OUT = {
    "pages and widgets in a browser: their scripts are the same, and test_explorer.py tests the Python behind them": (
        "test_explorer_browser.py",
        "test_pages.py",
        "test_try_page.py",
    ),
    "the text of notebooks and documents, which no package changes": (
        "test_glossary.py",
        "test_minutes.py",
        "test_notebooks.py",
        "test_project.py",
        "test_teaching.py",
    ),
    "what tools/ makes of the notebooks, always with the pinned versions": (
        "test_paths.py",
        "test_slides.py",
        "test_student.py",
        "test_wheelhouse.py",
    ),
    "how data/ was made, always with the pinned versions": (
        "test_recipes.py",
        "test_recipes_evaluate.py",
        "test_recipes_real.py",
    ),
    "whole notebooks; 01 to 06 run here, and what the others call has tests of its own": (
        "test_notebook_12.py",
        "test_notebooks_elsewhere.py",
    ),
}
"""Why some files of tests do not run with the lowest versions."""
NOT_INSTALLED = re.compile(r"^(nvidia-|cuda-|triton|torch\b)")
"""Lines of the resolution that are left out: torch comes by itself, and its CUDA packages are not wanted."""


def resolve() -> list[str]:
    """The lowest version of every direct requirement, and versions of all else that fit them: lines `name==version`."""
    torch = version("torch").partition("+")[0]
    overrides = FOLDER / "overrides.txt"
    overrides.write_text(f"torch=={torch}\n", "utf-8")
    command = [
        sys.executable,
        "-m",
        "uv",
        "pip",
        "compile",
        "--quiet",
        "--resolution",
        "lowest-direct",
        "--no-annotate",
    ]
    command += ["--no-header", "--python-version", ".".join(map(str, sys.version_info[:2])), "--extra", "dev"]
    command += ["--override", str(overrides), "pyproject.toml"]
    lines = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    return [f"torch=={torch}", *(line for line in lines if not NOT_INSTALLED.match(line))]


def main() -> int:
    FOLDER.mkdir(parents=True, exist_ok=True)
    lines = resolve()
    wanted = "\n".join(lines) + "\n"
    done, python = FOLDER / "installed.txt", FOLDER / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not done.is_file() or done.read_text("utf-8") != wanted:
        print(f"Installing the lowest versions of {len(lines)} packages into build/lowest ...", flush=True)
        venv.create(FOLDER / "venv", clear=True, with_pip=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile"]
        subprocess.run([*pip, lines[0]], check=True)  # torch
        requirements = FOLDER / "requirements.txt"
        requirements.write_text(wanted, "utf-8")
        uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(python)]
        subprocess.run([*uv, "-r", str(requirements)], check=True)
        subprocess.run([*uv, "--no-deps", "--editable", str(ROOT)], check=True)
        done.write_text(wanted, "utf-8")
    direct = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    names = {re.match(r"[\w.-]+", text)[0].lower().replace("_", "-") for text in direct}
    print("Lowest versions:", ", ".join(line for line in lines if line.split("==")[0] in names), flush=True)
    pytest = [str(python), "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", "2"]
    ignored = [f"--ignore=tests/{name}" for names in LEFT_OUT.values() for name in names]
    units = subprocess.run([*pytest, "--dist", "worksteal", *ignored, "tests"], cwd=ROOT)
    first_six = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "notebooks").glob("0[1-6]_*.ipynb"))
    # --nbval-lax runs every cell and compares none: the stored outputs are those of the pinned versions.
    lax = ["--dist", "loadscope", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", "600"]
    notebooks = subprocess.run([*pytest, *lax, *first_six], cwd=ROOT)
    return units.returncode or notebooks.returncode


if __name__ == "__main__":
    sys.exit(main())

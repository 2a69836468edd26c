"""All packages on a USB stick, for a room without a network: `python -m tools.wheelhouse`.

    python -m tools.wheelhouse                                 what to type, for every system
    python -m tools.wheelhouse windows macos --download        fill build/wheelhouse/windows and build/wheelhouse/macos
    python -m tools.wheelhouse windows --python 3.11           for another Python than the one that runs this

What it does: uv picks, of constraints.txt, the packages that a system needs; pip downloads their wheels, also those of
a system that is not this one. The folder and the repository go on a stick, and no learner's machine needs a network.

What it cannot:
- it brings no Python: put the installers of python.org on the stick, of the version that --python names;
- one folder is for one system and one minor version of Python;
- on Linux it leaves out PyTorch, whose wheel on the package index brings gigabytes of CUDA: take the CPU build with the
  command of PyTorch's start page (Linux, Pip, CPU), with `download --dest FOLDER` in the place of `install`;
- Macs with an Intel processor, or with a macOS before 14, are left out: PyTorch makes no wheels for them any more.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tools.chapters import BUILD, ROOT

FOLDER = BUILD / "wheelhouse"
EXTRAS = ("dev", "browser")
CUDA = re.compile(r"^(nvidia-|cuda-|triton|torch\b)")
"""What the Linux list leaves out."""


@dataclass(frozen=True)
class System:
    """One kind of machine: its name at uv, the tags of wheels that run on it, and how packages are installed there."""

    name: str
    uv: str
    tags: tuple[str, ...]
    install: tuple[str, ...]


UNIX = ("PIP_NO_INDEX=1 PIP_FIND_LINKS=/path/to/stick/{name} make run",)
SYSTEMS = {
    system.name: system
    for system in (
        System(
            "windows",
            "x86_64-pc-windows-msvc",
            ("win_amd64",),
            (
                "py -m venv .venv",
                '.venv\\Scripts\\python -m pip install --no-index --find-links D:\\windows "setuptools>=77"',
                ".venv\\Scripts\\python -m pip install --no-index --find-links D:\\windows -c constraints.txt "
                '--no-build-isolation -e ".[dev]"',
            ),
        ),
        System("macos", "aarch64-apple-darwin", ("macosx_14_0_arm64", "macosx_14_0_universal2"), UNIX),
        System(
            "linux",
            "x86_64-unknown-linux-gnu",
            ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_24_x86_64", "manylinux2014_x86_64"),
            UNIX,
        ),
    )
}


def resolve_command(system: System, python: str) -> list[str]:
    """uv's command that prints what the system needs, in the versions of constraints.txt."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
    command += ["--only-binary", ":all:", "--python-platform", system.uv]
    # uv takes 3.11 for 3.11.0, for which some of the pinned packages are too new
    command += ["--python-version", f"{python}.9", "--constraint", "constraints.txt"]
    return [*command, *(word for extra in EXTRAS for word in ("--extra", extra)), "pyproject.toml"]


def download_command(system: System, python: str) -> list[str]:
    """pip's command that fills the folder of the system from the list beside it."""
    folder = (FOLDER / system.name).relative_to(ROOT).as_posix()
    command = ["python", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--implementation", "cp"]
    command += ["--python-version", python, *(word for tag in system.tags for word in ("--platform", tag))]
    return [*command, "--dest", folder, "--requirement", f"{folder}.txt"]


def wanted(resolution: str, system: System) -> list[str]:
    """The lines `name==version` of the system's list, of what uv printed; setuptools builds the project itself."""
    lines = [line for line in resolution.splitlines() if "==" in line and not line.startswith("#")]
    if system.name == "linux":
        lines = [line for line in lines if not CUDA.match(line)]
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return sorted({*lines, *(pin for pin in pins if pin.startswith("setuptools=="))})


def download(system: System, python: str) -> Path:
    """Fill the system's folder; asks the package index."""
    # uv takes Macs for older than PyTorch does, unless this variable says otherwise
    environment = os.environ | {"MACOSX_DEPLOYMENT_TARGET": "14.0"}
    done = subprocess.run(
        resolve_command(system, python), cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, env=environment
    )
    folder = FOLDER / system.name
    folder.mkdir(parents=True, exist_ok=True)
    folder.with_suffix(".txt").write_text("\n".join(wanted(done.stdout, system)) + "\n", encoding="utf-8")
    subprocess.run([sys.executable, *download_command(system, python)[1:]], cwd=ROOT, check=True)
    size = sum(file.stat().st_size for file in folder.iterdir()) / 1e9
    print(f"{system.name}: {len(list(folder.iterdir()))} wheels, {size:.1f} GB")
    return folder


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tools.wheelhouse", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("systems", nargs="*", help=f"of {', '.join(SYSTEMS)}; all of them if none is named")
    parser.add_argument("--python", default=".".join(map(str, sys.version_info[:2])), help="such as 3.12")
    parser.add_argument("--download", action="store_true", help="do it, instead of showing the commands")
    args = parser.parse_args(argv)
    if unknown := [name for name in args.systems if name not in SYSTEMS]:
        parser.error(f"there is no system {unknown[0]!r}; there are {', '.join(SYSTEMS)}")
    if not re.fullmatch(r"3\.1[1-9]", args.python):
        parser.error(f"--python {args.python}: write it as 3.11 or newer")
    for system in (SYSTEMS[name] for name in args.systems or SYSTEMS):
        if args.download:
            download(system, args.python)
            continue
        listed = shlex.join(["python", *resolve_command(system, args.python)[1:]])
        print(f"{system.name}, Python {args.python}: with a network, in the repository")
        print(f"  python -m tools.wheelhouse {system.name} --python {args.python} --download")
        before = "MACOSX_DEPLOYMENT_TARGET=14.0 " if system.name == "macos" else ""
        print(f"which does\n  {before}{listed}\n  {shlex.join(download_command(system, args.python))}")
        if system.name == "linux":
            print(
                f"and not PyTorch: its CPU build goes into {FOLDER.relative_to(ROOT).as_posix()}/linux by the command"
            )
            print("of PyTorch's start page for Linux, Pip, CPU, with `download --dest FOLDER` for `install`")
        print("on a learner's machine, without one:")
        print(*(f"  {line.format(name=system.name)}" for line in system.install), sep="\n", end="\n\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

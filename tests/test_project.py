"""The files around the code say the same thing as the code, and nothing that is private."""

import contextlib
import re
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError, requires

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tools.chapters import ROOT
from tools.lines import BESIDE_THE_CORE, rooms
from tools.links import anchors, broken_links
from tools.lowest import LEFT_OUT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
REQUIRED = [Requirement(text) for text in PROJECT["dependencies"]]
EXTRAS = {name: [Requirement(text) for text in texts] for name, texts in PROJECT["optional-dependencies"].items()}
CONDA_NAMES = {"pytorch": "torch"}
INSTALLED_EXTRAS = set(
    re.search(r"^EXTRAS := (\S+)$", (ROOT / "Makefile").read_text("utf-8"), re.M).group(1).split(",")
)
"""What `make install` adds to the required packages."""
WANTED = [*REQUIRED, *(req for name in sorted(INSTALLED_EXTRAS) for req in EXTRAS[name])]


def tracked():
    """The files that git has, or will have when asked to add all; every file where there is no git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):
        names = [path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*")]
        names = [name for name in names if not re.match(r"(\.venv|build|\.git)/|.*__pycache__", name)]
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def texts():
    for path in tracked():
        if path.suffix not in {".ipynb", ".csv"} and path.stat().st_size < 1_000_000:
            with contextlib.suppress(UnicodeDecodeError):
                yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")


def pins():
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pinned = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert all(re.fullmatch(r"==[\w.]+", str(pin.specifier)) for pin in pinned), "a pin is one exact, public version"
    return {canonicalize_name(pin.name): str(pin.specifier)[2:] for pin in pinned}


def test_conda_says_the_same():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == PROJECT["name"]
    plain = [Requirement(line) for line in environment["dependencies"] if isinstance(line, str)]
    conda = {CONDA_NAMES.get(req.name, req.name): req.specifier for req in plain}
    assert str(conda.pop("python")) == PROJECT["requires-python"]
    assert not conda.pop("pip")
    assert conda == {req.name: req.specifier for req in REQUIRED}
    # What conda does not install, pip does, by the names of the extras: their ranges stand in pyproject.toml alone.
    (pip,) = [line["pip"] for line in environment["dependencies"] if isinstance(line, dict)]
    extras = set(re.fullmatch(r"-e \.\[([\w,-]+)\]", pip[0]).group(1).split(","))
    assert len(pip) == 1
    assert extras == INSTALLED_EXTRAS


def test_binder_says_the_same_with_the_cpu_build():
    binder = yaml.safe_load((ROOT / "binder" / "environment.yml").read_text(encoding="utf-8"))
    lines = [re.sub(r"^python=", "python==", line) for line in binder["dependencies"]]
    found = {req.name: req.specifier for req in map(Requirement, lines)}
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(str(found.pop("python"))[2:])
    assert not found.pop("pip") and found.pop("setuptools")
    assert found.pop("pytorch-cpu") == {req.name: req.specifier for req in REQUIRED}["torch"]
    assert found == {req.name: req.specifier for req in REQUIRED if req.name != "torch"}, "and nothing for tests alone"
    for script in ("postBuild", "start"):
        assert (ROOT / "binder" / script).stat().st_mode & 0o100, f"repo2docker runs binder/{script}"


def test_other_systems_are_tested_with_the_commands_of_the_readme():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))["jobs"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = {name: [step["run"] for step in job["steps"] if "run" in step] for name, job in jobs.items()}
    assert re.findall(r"(?m)^(make (?:run|test))\b", readme)[:2] == commands["make"] == ["make run", "make test"]
    powershell = re.search(r"```powershell\n(.*?)```", readme, re.DOTALL)[1].splitlines()
    assert powershell[-1].startswith(".venv\\Scripts\\jupyter lab"), "it opens a window, so no test runs it"
    assert commands["windows"] == [*powershell[:-1], r".venv\Scripts\python -m pytest tests"]


def test_contributing_names_every_room():
    """The layout in CONTRIBUTING is the folders that there are, and the rooms of helpers are those of the contract."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    layout = re.search(r"```text\n(.*?)```", text, re.DOTALL)[1]
    named = set(re.findall(r"(?m)^(\.?[\w-]+)/", layout))
    there = {path.relative_to(ROOT).parts[0] for path in tracked() if len(path.relative_to(ROOT).parts) > 1}
    assert named == there
    rooms = re.findall(r"[a-z_]+", " ".join(re.findall(r"(?m)^  (\w+(?:, \w+)*)  ", layout)))
    contract = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
    assert sorted(rooms) == sorted(re.sub(r"[()]", "", layer) for layer in contract[0]["layers"])


def test_contributing_answers_a_stranger():
    """What it says is in a file is there, and the lines that it counts are about those that there are."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    answers = re.findall(r"`(helpers/[\w/]+\.py)`, `(\w+)`", text)
    assert len(answers) >= 6
    for file, name in answers:
        assert re.search(rf"(?m)^\s*def {name}\(", (ROOT / file).read_text(encoding="utf-8")), (
            f"{name} is not in {file}"
        )
    counted = rooms()
    said = {room: int(lines) for room, lines in re.findall(r"(?m)^\| `(\w+)` \| (\d+) \|", text)}
    assert {room: counted[room] for room in said} == {room: pytest.approx(n, rel=0.15) for room, n in said.items()}
    core = {room: lines for room, lines in counted.items() if room not in BESIDE_THE_CORE}
    assert {room for room, lines in core.items() if lines > 350} <= set(said)
    whole = int(re.search(r"has ([\d,]+) lines of code", text)[1].replace(",", ""))
    assert sum(core.values()) == pytest.approx(whole, rel=0.1)


def test_what_the_lowest_versions_leave_out_is_there():
    assert [name for names in LEFT_OUT.values() for name in names if not (ROOT / "tests" / name).is_file()] == []


def test_pins_lie_in_the_ranges():
    pinned = pins()
    for req in WANTED:
        name = canonicalize_name(req.name)
        assert name in pinned, f"{req.name} has no exact version in constraints.txt"
        assert req.specifier.contains(pinned[name]), f"{req}, but constraints.txt has {pinned[name]}"


def test_no_pin_is_of_a_package_that_makes_the_installation_big():
    assert not {"torchvision", "torchaudio", "medmnist"} & set(pins())


def test_everything_that_comes_along_is_pinned():
    """Follow the requirements of the installed packages, as the resolver does."""
    pinned, seen = pins(), set()
    queue = [(req, "") for req in WANTED]
    while queue:
        req, extra = queue.pop()
        for wanted in {"", *req.extras} | ({extra} if extra else set()):
            if req.marker and not req.marker.evaluate(default_environment() | {"extra": wanted}):
                continue
            name = canonicalize_name(req.name)
            if (name, wanted) in seen or name.startswith(("nvidia-", "cuda-", "triton")):  # torch pins its own
                continue
            seen.add((name, wanted))
            assert name in pinned, f"{req} comes along, but constraints.txt does not say in which version"
            try:
                queue += [(Requirement(text), wanted) for text in requires(name) or []]
            except PackageNotFoundError:
                continue
    assert len(seen) > 50


PRIVATE = {
    "a path of somebody's machine": r"(?<![\w.:}/-])/(?:home|Users|root|opt|work|mnt)/\w",
    "an e-mail address": r"[\w.+-]+@[\w-]+\.(?!ipynb|py\b)[a-z]{2,}\b",
    "an access token": r"\bhf_[A-Za-z0-9]{16,}",
    "an address of a package index": r"(?:index-url|find-links|registry)[ =:]+\S*(?:://|/simple)",
    "a reminder instead of the work": r"\b(?:TODO|FIXME|XXX)\b",
}


@pytest.mark.parametrize("what", PRIVATE)
def test_nothing_private_is_committed(what):
    found = {
        name: match[0]
        for name, text in texts()
        if not name.startswith("tests/")  # they hold examples of what must not be
        for match in re.finditer(PRIVATE[what], text)
    }
    assert not found, f"{what}: {found}"


def test_links_of_the_pages_beside_the_notebooks():
    broken = {
        name: list(broken_links(text, (ROOT / name).parent, anchors(text)))
        for name, text in texts()
        if name.endswith(".md")
    }
    assert not {name: found for name, found in broken.items() if found}


def test_nothing_is_too_big_to_clone():
    sizes = {path.relative_to(ROOT).as_posix(): path.stat().st_size for path in tracked()}
    assert not {name: size for name, size in sizes.items() if size > 20_000_000}
    assert sum(size for name, size in sizes.items() if name.startswith("data/atlas/")) <= 15_000_000
    assert sum(size for name, size in sizes.items() if name.startswith("data/cells/")) < 10_000_000
    assert sum(sizes.values()) <= 80_000_000


def test_data_is_as_its_sums_say():
    """No file changed, forgotten in the list, or gone; `python -m tools.checksums` makes the list anew."""
    from helpers.doctor import CHECKSUMS, DATA, damaged

    listed = {line.split("  ", 1)[1] for line in (DATA / CHECKSUMS).read_text(encoding="utf-8").splitlines()}
    there = {path.relative_to(DATA).as_posix() for path in tracked() if path.is_relative_to(DATA)} - {CHECKSUMS}
    assert listed == there
    assert not damaged("")

"""What works on this machine and what does not, with a cure for each: `python -m helpers.doctor`.

Exit code 1 if something is missing that the notebooks need. What only the released model or the project's own tests
need is a note. Nothing is downloaded, and a token is never shown.

The report ends with one line to hand in, which names nobody; `--share` prints that line alone. A teacher saves what
was handed in, and `--collect FOLDER` (or a file with all the lines) makes a table that says which machines to look at.

What is not of the standard library is imported in the checks, so that a missing package is a finding and no crash.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import re
import secrets
import shutil
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
DATA = ROOT / "data"
CHECKSUMS = "SHA256SUMS"
RELEASED = "JerrryNie/ConceptCLIP"
GB = 1e9

INSTALL = "In the repository: `make`, or `python -m pip install -c constraints.txt -e .`"
CHECK_OUT = "Get the files as they are in the repository: `git checkout -- data`, or clone it again."


@dataclass(frozen=True)
class Finding:
    """One line of the report. `state` is "ok", "note" (fine for the notebooks) or "problem"."""

    topic: str
    state: str
    found: str
    cure: str = ""


def python(found: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    """Is this Python new enough?"""
    name = ".".join(map(str, found))
    if found < (3, 11):
        cure = "Install a newer one; `PYTHON=python3.12 make run` names it."
        return Finding("Python", "problem", f"{name}; 3.11 or newer is needed", cure)
    return Finding("Python", "ok", name)


def packages(pyproject: Path = ROOT / "pyproject.toml", installed: Callable[[str], str] = version) -> Finding:
    """Are the packages that the project asks for here, in the versions it asks for?"""
    import tomllib

    from packaging.requirements import Requirement

    if not pyproject.is_file():
        return Finding("Packages", "problem", "helpers is installed without its repository", INSTALL)
    wrong = []
    requirements = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]["dependencies"]
    for requirement in map(Requirement, requirements):
        try:
            found = installed(requirement.name)
        except PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} is {found}, not {requirement.specifier}")
    if wrong:
        return Finding("Packages", "problem", "; ".join(wrong), INSTALL)
    return Finding("Packages", "ok", f"all {len(requirements)} in the versions asked for")


def torch_and_device() -> Iterator[Finding]:
    """Does PyTorch compute, and on what?"""
    import torch

    yield Finding("PyTorch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")
    if torch.cuda.is_available():
        device, name = "cuda", torch.cuda.get_device_name()
    elif torch.backends.mps.is_available():
        device, name = "mps", "Apple's GPU"
    else:
        device, name = "cpu", "the processor"
    try:
        ones = torch.ones(64, 1, device=device)
        assert torch.allclose(torch.eye(64, device=device) @ ones, ones), "a product came out wrong"
    except Exception as error:
        cure = 'Work on the processor: `helpers.load(device="cpu")`; or install the PyTorch build for your driver.'
        yield Finding("Device", "problem", f"{device} is offered but does not compute: {_short(error)}", cure)
        return
    yield Finding("Device", "ok", f"{device} ({name})")


def model_family() -> Finding:
    """Do transformers' Auto classes know ConceptCLIP, and where and in what would `load` load it?"""
    import transformers

    from helpers.conceptclip import ConceptCLIPConfig  # registers the family
    from helpers.loading import pick_device, pick_dtype

    known = "conceptclip" in transformers.CONFIG_MAPPING
    device = pick_device()
    found = f"{transformers.__version__}, {'knows' if known else 'does not know'} ConceptCLIP"
    dtype = str(pick_dtype("auto", device, ConceptCLIPConfig())).removeprefix("torch.")
    return Finding(
        "transformers",
        "ok" if known else "problem",
        f"{found}; by default {dtype} on {device}",
        "" if known else INSTALL,
    )


def jupyter() -> Finding:
    """Can notebooks be opened and run, and with this Python?"""
    try:
        found = f"JupyterLab {version('jupyterlab')}, ipywidgets {version('ipywidgets')}"
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel
    except (PackageNotFoundError, ImportError) as error:
        return Finding("Jupyter", "problem", _short(error), INSTALL)
    try:
        executable = KernelSpecManager().get_kernel_spec("python3").argv[0]
    except NoSuchKernel:
        return Finding("Jupyter", "problem", f"{found}, but no kernel", "`python -m ipykernel install --sys-prefix`")
    # not samefile(): a virtual environment's Python is a link to the one it was made from
    if Path(executable).is_absolute() and Path(executable).parent.resolve() != Path(sys.executable).parent.resolve():
        cure = "`python -m ipykernel install --sys-prefix` lets notebooks run with the Python that has the packages."
        return Finding("Jupyter", "problem", f"{found}; its kernel is another Python: {executable}", cure)
    return Finding("Jupyter", "ok", found)


def damaged(part: str, data: Path = DATA) -> list[str]:
    """The files below data/`part` that are missing or not as data/SHA256SUMS has them."""
    wrong = []
    for line in (data / CHECKSUMS).read_text(encoding="utf-8").splitlines():
        sum_, name = line.split("  ", 1)
        path = data / name
        if name.startswith(f"{part}/" if part else "") and not (
            path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == sum_
        ):
            wrong.append(name)
    return wrong


def _files(topic: str, part: str, landmark: str, data: Path) -> Finding | None:
    """What is wrong with the files of a part of data/, or None."""
    if not data.is_dir():
        return Finding(topic, "problem", "helpers is installed without its data", f"Clone the repository. {INSTALL}")
    if not (data / part / landmark).is_file():
        return Finding(topic, "problem", f"data/{part}/{landmark} is not there", CHECK_OUT)
    if not (data / CHECKSUMS).is_file():
        return Finding(topic, "problem", f"data/{CHECKSUMS} is not there, so its files cannot be checked", CHECK_OUT)
    if wrong := damaged(part, data):
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        return Finding(topic, "problem", f"changed or missing: {', '.join(wrong[:3])}{more}", CHECK_OUT)
    return None


def shipped_model(data: Path = DATA) -> Finding:
    """Is conceptclip-mini whole, and does it answer?"""
    if problem := _files("Shipped model", "conceptclip-mini", "model.safetensors", data):
        return problem
    import torch

    from helpers.loading import load

    start = time.perf_counter()
    try:
        model, processor = load(data / "conceptclip-mini", device="cpu")
        with torch.inference_mode():
            features, _ = model.encode_text(processor.tokenizer(["a round nucleus"], return_tensors="pt").input_ids)
        assert torch.isfinite(features).all(), "its features are not numbers"
    except Exception as error:
        return Finding("Shipped model", "problem", f"its files are right, but it fails: {_short(error)}", INSTALL)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    took = time.perf_counter() - start
    return Finding("Shipped model", "ok", f"{millions:.1f} million parameters, loaded and asked in {took:.1f} s")


def atlas(data: Path = DATA) -> Finding:
    """Are the atlas' pictures, masks and table whole?"""
    if problem := _files("Atlas", "atlas", "cells.csv", data):
        return problem
    return Finding("Atlas", "ok", f"{_rows(data / 'atlas' / 'cells.csv')} cells")


def real_cells(data: Path = DATA) -> Finding:
    """Are the photographs of real cells, their masks and their table whole?"""
    if problem := _files("Real cells", "cells", "cells.csv", data):
        return problem
    return Finding("Real cells", "ok", f"{_rows(data / 'cells' / 'cells.csv')} photographs")


def _rows(table: Path) -> int:
    return len(table.read_text(encoding="utf-8").splitlines()) - 1


def chosen_model(source: str | None = None) -> Finding:
    """What `helpers.load()` loads, where $CONCEPTCLIP_MODEL says something else than the shipped model."""
    source = os.environ.get("CONCEPTCLIP_MODEL", "") if source is None else source
    if not source:
        return Finding("CONCEPTCLIP_MODEL", "ok", "not set: the notebooks use the shipped model")
    if Path(source).expanduser().is_dir():
        return Finding("CONCEPTCLIP_MODEL", "ok", f"the folder {source}")
    if re.fullmatch(r"[\w.-]+/[\w.-]+", source):
        return Finding("CONCEPTCLIP_MODEL", "ok", f"{source}, from the hub or its cache")
    cure = f"Unset it, or set it to a folder that is there or to a hub id such as {RELEASED}."
    return Finding("CONCEPTCLIP_MODEL", "problem", f"{source} is neither a folder nor a hub id", cure)


def hub() -> Iterator[Finding]:
    """Is the released model in the cache, is there a token, may the hub be asked?"""
    from huggingface_hub import constants, get_token, try_to_load_from_cache

    cached = isinstance(try_to_load_from_cache(RELEASED, "model.safetensors"), str)
    cache = Path(constants.HF_HUB_CACHE)
    if cached:
        yield Finding("Released model", "ok", f"in the cache, {cache}")
    else:
        cure = f'Accept its terms on its page, log in with `hf auth login`, then helpers.load("{RELEASED}") (2.2 GB).'
        yield Finding("Released model", "note", f"not in the cache, {cache}; no notebook needs it", cure)
    if get_token():
        yield Finding("Hub token", "ok", "there is one (it is not shown)")
    else:
        cure = "`hf auth login`, or the variable HF_TOKEN; needed only to download the released model"
        yield Finding("Hub token", "note", "none", cure)
    if constants.HF_HUB_OFFLINE:
        cure = "Unset HF_HUB_OFFLINE to download something." if not cached else ""
        yield Finding("Hub access", "ok" if cached else "note", "switched off by HF_HUB_OFFLINE", cure)


def disk(free: float | None = None) -> Finding:
    """Is there room for what the notebooks write, and for the released model?"""
    free = shutil.disk_usage(ROOT).free if free is None else free
    found = f"{free / GB:.1f} GB free"
    if free < 0.2 * GB:
        return Finding("Disk", "problem", found, "Free some: the rendered notebooks need 0.2 GB.")
    if free < 3 * GB:
        return Finding("Disk", "note", found, "Enough for the notebooks; the released model needs 3 GB.")
    return Finding("Disk", "ok", found)


def memory(free: float | None = None) -> Finding:
    """Is there memory for the shipped model, and for the released one?"""
    if free is None:
        import psutil

        free = psutil.virtual_memory().available
    found = f"{free / GB:.1f} GB free"
    if free < 1 * GB:
        return Finding("Memory", "problem", found, "Close something: a notebook needs about 1 GB.")
    if free < 6 * GB:
        return Finding("Memory", "note", found, "Enough for the shipped model; the released one needs about 6 GB.")
    return Finding("Memory", "ok", found)


def browser(which: Callable[[str], str | None] = shutil.which) -> Finding:
    """Is there what the tests of the explorers drive?"""
    lacking = [] if which("chromium") or which("google-chrome") else ["Chromium"]
    lacking += [] if which("chromedriver") else ["its driver"]
    try:
        version("selenium")
    except PackageNotFoundError:
        lacking.append("selenium")
    if lacking:
        cure = "For the explorers' tests only: `apt install chromium chromium-driver`, `pip install -e '.[browser]'`"
        return Finding("Browser for tests", "note", f"no {', no '.join(lacking)}", cure)
    return Finding("Browser for tests", "ok", "Chromium, its driver and selenium")


CHECKS: list[Callable] = [
    python, packages, torch_and_device, model_family, jupyter, shipped_model, atlas, real_cells, chosen_model, hub,
    disk, memory, browser,
]  # fmt: skip


def examine(checks: list[Callable] = CHECKS) -> Iterator[Finding]:
    """Run the checks one by one; one that breaks is itself a finding."""
    for check in checks:
        try:
            found = check()
            yield from [found] if isinstance(found, Finding) else found
        except Exception as error:
            yield Finding(check.__name__.replace("_", " "), "problem", f"the check failed: {_short(error)}", INSTALL)


def _short(error: Exception) -> str:
    return textwrap.shorten(f"{type(error).__name__}: {error}", 200)


def line(finding: Finding, width: int | None = None) -> str:
    """A finding as text, its cure below it."""
    width = width or max(60, shutil.get_terminal_size((120, 24)).columns)
    first, rest, arrow = f"{finding.state:<9}{finding.topic:<19}", " " * 28, " " * 28 + "-> "
    text = textwrap.fill(finding.found, width, initial_indent=first, subsequent_indent=rest)
    if finding.cure:
        text += "\n" + textwrap.fill(finding.cure, width, initial_indent=arrow, subsequent_indent=rest + "   ")
    return text


SLIP = "conceptclip-doctor"
"""How a line to hand in begins; then key=value, without spaces in a value."""
SLIP_LINE = re.compile(rf"{SLIP}((?:[\s>]+[a-z]+=\S+)+)")
KEYS = (
    "slip", "system", "python", "torch", "transformers", "jupyterlab", "memory", "cores", "vector", "seconds",
    "problems",
)  # fmt: skip
SAME_VECTOR = 0.01
"""Two sums further apart come from different models; processors differ by far less."""


def one_cell(data: Path = DATA) -> tuple[float, float]:
    """What the shipped model computes on the processor, in float32.

    Returns:
        The sum over i of i times the i-th number of a picture's vector: on all machines the same, but for rounding. The
        picture is computed, so that nothing depends on who decodes JPEG. And the seconds for one blood cell of the
        atlas, from its file to its vector.
    """
    import numpy as np
    import torch

    from helpers.encoding import encode_images
    from helpers.loading import load

    model, processor = load(data / "conceptclip-mini", device="cpu", dtype=torch.float32)
    ramp = np.arange(256)
    picture = np.stack([np.add.outer(ramp, k * ramp) % 256 for k in range(3)], axis=-1).astype(np.uint8)
    features = encode_images(model, processor, [picture]).features[0].double()
    cell = min((data / "atlas" / "images").iterdir())
    start = time.perf_counter()
    encode_images(model, processor, [cell])
    seconds = time.perf_counter() - start
    return float((features * torch.arange(1, len(features) + 1)).sum()), seconds


def slip(findings: list[Finding], measure: Callable[[], tuple[float, float]] = one_cell) -> str:
    """One line to hand in: versions, memory, a sum over a vector, seconds for one cell. It holds no name of anybody.

    A learner finds her own line in the teacher's table by its first value, which is drawn anew for each line.
    """
    said = dict.fromkeys(KEYS, "missing") | {"slip": secrets.token_hex(2)}
    said["system"] = f"{platform.system()}-{platform.machine()}"
    said["python"], said["cores"] = platform.python_version(), str(os.cpu_count())
    for package in ("torch", "transformers", "jupyterlab"):
        try:
            said[package] = version(package)
        except PackageNotFoundError:
            continue
    try:
        import psutil

        memory = psutil.virtual_memory()
        said["memory"] = f"{memory.available / GB:.1f}/{memory.total / GB:.1f}GB"
    except Exception:  # what is missing is said by the line itself
        pass
    try:
        vector, seconds = measure()
        said["vector"], said["seconds"] = f"{vector:.3f}", f"{seconds:.3f}"
    except Exception as error:
        said["vector"] = type(error).__name__
    wrong = [finding.topic.replace(" ", "-") for finding in findings if finding.state == "problem"]
    said["problems"] = ",".join(wrong) or "none"
    return " ".join([SLIP, *(f"{key}={''.join(value.split())}" for key, value in said.items())])


def read_slips(source: Path) -> list[dict[str, str]]:
    """The lines that were handed in, from a file or from all files of a folder; the same line twice counts once.

    Raises:
        ValueError: there is no such file or folder, or no line in it.
    """
    if not source.exists():
        raise ValueError(f"{source.name}: there is no such file or folder.")
    files = sorted(path for path in source.rglob("*") if path.is_file()) if source.is_dir() else [source]
    texts = [file.read_text(encoding="utf-8", errors="replace") for file in files]
    found = [dict(re.findall(r"([a-z]+)=(\S+)", match)) for text in texts for match in SLIP_LINE.findall(text)]
    if not found:
        raise ValueError(f"{source.name}: no line in it begins with {SLIP!r}; `--share` prints such a line.")
    return list({tuple(sorted(said.items())): said for said in found}.values())


def _number(text: str) -> float | None:
    match = re.match(r"-?\d+(?:\.\d+)?", text)
    return float(match[0]) if match else None


def remarks(slips: list[dict[str, str]]) -> list[list[str]]:
    """What a teacher looks at, for each line: what is missing, or other than on most of the machines."""
    most = Counter(said.get("torch") for said in slips).most_common(1)[0][0]
    middle = {}
    for key in ("vector", "seconds"):
        values = [value for said in slips if (value := _number(said.get(key, ""))) is not None]
        middle[key] = median(values) if values else None
    found = []
    for said in slips:
        lacking = [key for key in KEYS if said.get(key, "missing") == "missing"]
        notes = [f"no {', '.join(lacking)}"] if lacking else []
        if said.get("problems", "none") != "none":
            notes.append(f"problems: {said['problems']}")
        free, vector, seconds = (_number(said.get(key, "")) for key in ("memory", "vector", "seconds"))
        if free is not None and free < 1:
            notes.append("less than 1 GB free")
        if "torch" not in lacking and said["torch"] != most:
            notes.append(f"most have torch {most}")
        if vector is None and "vector" not in lacking:
            notes.append(f"the model fails: {said['vector']}")
        elif vector is not None and middle["vector"] is not None and abs(vector - middle["vector"]) > SAME_VECTOR:
            notes.append("another vector than most: another model, or wrong arithmetic")
        usual = middle["seconds"]
        if seconds is not None and usual is not None and seconds > max(1.0, 5 * usual):
            notes.append("slow")
        found.append(notes)
    return found


def collected(source: Path) -> str:
    """The teacher's table of what was handed in; `ValueError` as `read_slips`."""
    slips = read_slips(source)
    notes = remarks(slips)
    columns = ("slip", "system", "python", "torch", "memory", "cores", "vector", "seconds")
    rows = [[said.get(key, "missing") for key in columns] for said in slips]
    rows = [[*row, "; ".join(said) or "ok"] for row, said in zip(rows, notes, strict=True)]
    rows = [[*columns, "look at"], *sorted(rows, key=lambda row: (row[-1] == "ok", row[0]))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(columns))] + [0]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    fine = sum(not said for said in notes)
    total = f"{len(slips)} machine{'s' if len(slips) > 1 else ''}, {fine} ok, {len(slips) - fine} to look at."
    return "\n".join([*lines, "", total])


def main(argv: list[str] | None = None) -> int:
    """Print the report, or what the options ask for; 1 if there is a problem."""
    parser = argparse.ArgumentParser(prog="python -m helpers.doctor", description=__doc__.split("\n\n")[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--share", action="store_true", help="only the line to hand in, which names nobody")
    which.add_argument("--collect", type=Path, metavar="FOLDER|FILE", help="a table of the lines that were handed in")
    args = parser.parse_args(argv)
    if args.collect is not None:
        try:
            print(collected(args.collect))
        except ValueError as error:
            print(error, file=sys.stderr)
            return 1
        return 0
    findings = []
    for finding in examine():
        findings.append(finding)
        if not args.share:
            print(line(finding), flush=True)
    problems = sum(finding.state == "problem" for finding in findings)
    if not args.share:
        if problems:
            print(f"\n{problems} problem{'s' if problems > 1 else ''}; the lines with -> say what to do.")
        else:
            print("\nEverything that the notebooks need is here.")
        print("\nTo hand in, if you are asked to (it names nobody):")
    print(slip(findings))
    return int(problems > 0)


if __name__ == "__main__":
    sys.exit(main())

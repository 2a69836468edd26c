"""What works on this machine and what does not, with a cure for each: `python -m helpers.doctor`.

Exit code 1 if something is missing that the notebooks need. What only the released model or the project's own tests
need is a note. Nothing is downloaded, and a token is never shown.

What is not of the standard library is imported in the checks, so that a missing package is a finding and no crash.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

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


def main() -> int:
    """Print the report; 1 if there is a problem."""
    problems = 0
    for finding in examine():
        print(line(finding), flush=True)
        problems += finding.state == "problem"
    if problems:
        print(f"\n{problems} problem{'s' if problems > 1 else ''}; the lines with -> say what to do.")
    else:
        print("\nEverything that the notebooks need is here.")
    return int(problems > 0)


if __name__ == "__main__":
    sys.exit(main())

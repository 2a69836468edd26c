"""Execute, clean and render the notebooks: what stands behind `make run`, `make refresh` and `make render`.

    python -m tools.notebooks run [NOTEBOOK ...]       execute into build/notebooks, render to build/html
    python -m tools.notebooks refresh [NOTEBOOK ...]   execute in place and clean, solutions too; renew README's table
    python -m tools.notebooks render [NOTEBOOK ...]    render the outputs that are stored in the notebooks
    python -m tools.notebooks table                    only README's table of chapters
    python -m tools.notebooks student [--path NAME]    for learners: no outputs, no solutions, on a path the rest cut

It calls `tools.api`, `tools.pages` and `tools.student`, and all read `tools.chapters`.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode
from tqdm import tqdm

from tools import api, pages, student
from tools.chapters import BUILD, README, ROOT, SOLUTIONS, WIDGET, chapters, everything

TABLE = re.compile(r"(<!-- chapters: .*? -->\n).*?(<!-- end of chapters -->)", re.DOTALL)


def execute(path: Path, label: str) -> tuple[NotebookNode, str | None]:
    """Run the notebook at `path` from top to bottom in a new kernel, in its own folder, showing how far it is.

    Returns the executed notebook, and what went wrong in one or two lines, or None.
    """
    nb = nbformat.read(path, as_version=4)
    n_code = sum(cell.cell_type == "code" for cell in nb.cells)
    start, problem = time.monotonic(), None
    layout = "{desc} {bar:24} {n:>3}/{total} cells  {elapsed}"
    with tqdm(total=n_code, desc=label, bar_format=layout, disable=None, file=sys.stdout) as bar:
        client = NotebookClient(
            nb,
            timeout=None,
            kernel_name="python3",
            resources={"metadata": {"path": str(path.parent)}},
            coalesce_streams=True,
            record_timing=False,
            store_widget_state=False,
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
            on_cell_executed=lambda **_: bar.update(),
        )
        try:
            client.execute()
        except (CellExecutionError, DeadKernelError) as error:
            failed = next((i for i, cell in enumerate(nb.cells) if _has_error(cell)), None)
            where = "its kernel died" if failed is None else f"cell {failed + 1} of {len(nb.cells)}"
            problem = f"{path.name}, {where}: {_last_line(error)}"
    if not sys.stdout.isatty():
        print(f"{label} {n_code:>3} cells in {time.monotonic() - start:.0f} s", flush=True)
    if problem:
        print(f"  failed: {problem}", flush=True)
    return nb, problem


def _has_error(cell: NotebookNode) -> bool:
    allowed = "raises-exception" in cell.metadata.get("tags", [])
    return not allowed and any(output.output_type == "error" for output in cell.get("outputs", []))


def _last_line(error: Exception) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    return text.splitlines()[-1] if text else type(error).__name__


def clean(nb: NotebookNode) -> NotebookNode:
    """Keep what a reader and nbval need, in place: no timestamps, no versions, no widgets of a dead kernel."""
    nb.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python", "pygments_lexer": "ipython3"},
    )
    nb.nbformat_minor = 5
    for cell in nb.cells:
        cell.metadata = NotebookNode({key: cell.metadata[key] for key in ("tags", "alt") if cell.metadata.get(key)})
        cell.source = cell.source.strip("\n")
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if WIDGET not in output.get("data", {})]
    nb.cells = [cell for cell in nb.cells if cell.source]
    return nb


def write(nb: NotebookNode, path: Path) -> None:
    """Write a valid notebook, through a neighbour, so that an interrupted call leaves the old one whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.validate(nb)
    neighbour = path.with_suffix(".ipynb.part")
    nbformat.write(nb, neighbour)
    neighbour.replace(path)


def labels(paths: list[Path]) -> Iterable[tuple[Path, str]]:
    """The paths, each with the text that stands before its progress bar: all of one width."""
    names = [path.stem + (" (solutions)" if path.parent.name == "solutions" else "") for path in paths]
    width = max(map(len, names), default=0)
    for i, (path, name) in enumerate(zip(paths, names, strict=True), start=1):
        yield path, f"{i:>{len(str(len(paths)))}}/{len(paths)}  {name:<{width}}"


def chapter_table() -> str:
    """The README's table of chapters, from their first cells."""
    lines = ["| | Notebook | The question it answers | Core, minutes | Whole |", "|---|---|---|---|---|"]
    for chapter in chapters():
        link = f"[{chapter.title}]({chapter.path.relative_to(ROOT).as_posix()})"
        lines.append(f"| {chapter.number} | {link} | {chapter.question} | {chapter.core} | {chapter.minutes} |")
    return "\n".join(lines) + "\n"


def update_readme() -> None:
    """Write the table of chapters between its two marks in README.md."""
    text = README.read_text(encoding="utf-8")
    if not TABLE.search(text):
        raise ValueError(
            "README.md: the marks '<!-- chapters: … -->' and '<!-- end of chapters -->' around the table are gone"
        )
    README.write_text(TABLE.sub(lambda match: match[1] + chapter_table() + match[2], text), encoding="utf-8")


def run(paths: list[Path]) -> list[str]:
    """Execute into build/notebooks and render; return the problems."""
    start, problems, executed = time.monotonic(), [], {}
    for path, label in labels(paths or [chapter.path for chapter in chapters()]):
        nb, problem = execute(path, label)
        problems += [problem] if problem else []
        executed[path] = executed_at(path)
        write(nb, executed[path])
    api.write()
    index = pages.render(executed, note=f"Executed with {_model()}, in {time.monotonic() - start:.0f} seconds.")
    print(f"\nThe notebooks with their results, to open in a browser:\n{index}")
    return problems


def executed_at(path: Path) -> Path:
    """Where `run` writes a notebook; a chapter and its solutions have one name, so they have a folder each."""
    folder = BUILD / "notebooks"
    return (folder / "solutions" if path.parent == SOLUTIONS else folder) / path.name


def _model() -> str:
    """What the page calls the model. Of a folder only its name: the path to it may hold a person's."""
    model = os.environ.get("CONCEPTCLIP_MODEL")
    if not model:
        return "conceptclip-mini, the model in this repository"
    folder = Path(model).expanduser()
    hub_id = len(folder.parts) == 2 and not folder.is_dir()
    return model if hub_id else folder.resolve().name


def refresh(paths: list[Path]) -> list[str]:
    """Execute in place and clean; a notebook that fails is left as it was. Return the problems."""
    problems = []
    for path, label in labels(paths or everything()):
        nb, problem = execute(path, label)
        if problem:
            problems.append(problem)
        else:
            write(clean(nb), path)
    update_readme()
    return problems


def render(paths: list[Path]) -> list[str]:
    """Render stored outputs."""
    api.write()
    print(
        pages.render(
            {path: path for path in paths or everything()}, note="Rendered from the outputs stored in the notebooks."
        )
    )
    return []


def for_learners(path: str | None) -> list[str]:
    """The zip for learners, of all notebooks or of a path."""
    student.write(path)
    return []


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tools.notebooks", description=__doc__.split("\n\n")[0])
    parser.add_argument("command", choices=["run", "refresh", "render", "table", "student"])
    parser.add_argument("notebooks", nargs="*", type=Path, help="only these; all of them if none is named")
    parser.add_argument("--path", help="with student: a path of tools/paths.toml, such as three-hours")
    args = parser.parse_args(argv)
    if args.command == "student" and args.notebooks:
        parser.error("student takes no notebooks, but --path")
    if args.path and args.command != "student":
        parser.error("--path goes with student")
    paths = [path.resolve() for path in args.notebooks]
    for path in paths:
        if not path.is_file():
            parser.error(f"no such notebook: {path}")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ["CONCEPTCLIP_PROGRESS"] = "off"  # what is executed here was not solved by a reader
    commands = {
        "run": run,
        "refresh": refresh,
        "render": render,
        "table": lambda _: update_readme(),
        "student": lambda _: for_learners(args.path),
    }
    try:
        problems = commands[args.command](paths)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if problems:
        print(f"\n{len(problems)} of the notebooks failed:", *problems, sep="\n  ", file=sys.stderr)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())

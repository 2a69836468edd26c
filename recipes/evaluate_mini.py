"""Grade conceptclip-mini on cells, photographs and words that it has never seen, and write the table of its model card.

    python -m recipes.evaluate_mini --pbc PBC --krd KRD --bccd BCCD            # while developing: PBC's val split
    python -m recipes.evaluate_mini --pbc PBC --krd KRD --bccd BCCD --final    # once, at the end: PBC's test split
    python -m recipes.evaluate_mini --model M --krd KRD --never-saw KRD        # a model trained without that laboratory
    python -m recipes.evaluate_mini ... --left-out KRD=M                       # and its row in this model's table
    python -m recipes.evaluate_mini --card [--left-out KRD=M]                  # grades nothing: that row, the table

Without `--final` PBC's test split is not opened. Every figure has a 95 % bootstrap interval and names its split; beside
it stand controls that know less than the model, or people who know more. The parts: `evaluate_drawn`, `evaluate_real`,
`evaluate_unknown`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch

import helpers
from helpers.bloodcells import ATTRIBUTES
from helpers.files import write_text

from .evaluate_drawn import Drawn, draw, grade_against_before, grade_drawn
from .evaluate_real import LEFT_OUT, grade_bccd, grade_krd, grade_left_out, grade_pbc, look_at_krd, look_at_pbc
from .evaluate_unknown import Witness, empty_fields, grade_denials, grade_foreign, grade_sigmoid, grade_without_cells
from .grading import Judge, table_of, write_card
from .make_cells import as_cell, attribute_truths

SECOND_READER = helpers.datasets.CELLS / "second-reader.csv"
SOME = 500
"""So many of the drawn cells stand for all of them where words are graded."""


def _truths(table: pd.DataFrame) -> pd.DataFrame:
    """A 0/1/NaN column for each concept, of PBC's rows; a row that contradicts itself decides nothing."""
    cells = [as_cell(row) for row in table[["cell_type", *ATTRIBUTES]].to_dict("records")]
    nothing = dict.fromkeys(helpers.bloodcells.CONCEPTS)
    return pd.DataFrame([nothing if cell is None else attribute_truths(cell) for cell in cells]).astype(float)


def _grade(judge: Judge, options: argparse.Namespace) -> Iterator[dict]:
    """All rows that the folders allow."""
    cells, witnesses = {}, {}
    if options.pbc is not None:
        split = "test" if options.final else "val"
        pbc = look_at_pbc(judge, options.pbc, split)
        yield from grade_pbc(judge, pbc, split, pd.read_csv(SECOND_READER), "PBC" in options.never_saw)
        cells[f"PBC {split}"] = pbc.features
        witnesses[f"PBC {split}"] = Witness(pbc.features, _truths(pbc.table))
    yield from grade_left_out(dict(options.left_out))
    if options.krd is not None:
        everything = "KRD" in options.never_saw
        krd = look_at_krd(judge, options.krd, everything)
        where = "KRD, all (never trained on)" if everything else "KRD held out"
        yield from grade_krd(judge, krd, where, everything)
        cells["KRD"] = krd.encodings.features
    if options.bccd is not None:
        yield from grade_bccd(judge, options.bccd, options.counts, "BCCD" in options.never_saw)
    drawn = None if options.no_drawn else draw(judge)
    if drawn is not None:
        some = _some(drawn)
        cells["drawn"] = some.features
        witnesses["drawn"] = some
    if cells:
        yield from grade_foreign(judge, cells)
    for name, witness in witnesses.items():
        if name.startswith("PBC"):
            yield from grade_sigmoid(judge, witness.features, witness.table, name)
    yield from grade_denials(judge, witnesses | {"drawn fields without a cell": empty_fields(judge)})
    yield from grade_without_cells(judge)
    if drawn is not None:
        rows = list(grade_drawn(judge, drawn))
        yield from grade_against_before(rows)
        yield from rows


def _some(drawn: Drawn) -> Witness:
    """Every fifth or so of the drawn cells, of both designs."""
    step = max(len(drawn.pictures) // SOME, 1)
    return Witness(drawn.features[::step], drawn.table.iloc[::step].reset_index(drop=True))


def _with(report: list[dict], rows: list[dict]) -> list[dict]:
    """A report with rows in the place of those of the same key; new ones stand behind PBC's and the laboratories'."""
    new = {row["key"]: row for row in rows}
    kept = [new.pop(row["key"], row) for row in report]
    at = next((n for n, row in enumerate(kept) if not row["key"].startswith(("pbc.", "left_out."))), len(kept))
    return [*kept[:at], *new.values(), *kept[at:]]


def _save(report: list[dict], model: Path) -> None:
    write_text(model / "evaluation.json", json.dumps(report, indent=1, ensure_ascii=False) + "\n")


def _pair(text: str) -> tuple[str, Path]:
    laboratory, _, folder = text.partition("=")
    if not folder:
        raise argparse.ArgumentTypeError(f"{text!r} should read LABORATORY=FOLDER, such as KRD=build/without-krd/model")
    return laboratory, Path(folder)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=Path("data/conceptclip-mini"))
    for name in ("pbc", "krd", "bccd"):
        parser.add_argument(
            f"--{name}", type=Path, help=f"the folder of {name.upper()}; without it nothing of it is graded"
        )
    parser.add_argument("--counts", type=Path, default=Path("data/wbcatt/attribute-counts.csv"))
    parser.add_argument(
        "--final", action="store_true", help="PBC's test split instead of val: for the model that ships"
    )
    parser.add_argument(
        "--never-saw", action="append", default=[], choices=[*LEFT_OUT], help="grade all of its pictures"
    )
    parser.add_argument("--left-out", action="append", default=[], type=_pair, metavar="LABORATORY=FOLDER")
    parser.add_argument("--no-drawn", action="store_true", help="leave the drawn cells out (a minute less)")
    parser.add_argument(
        "--card", action="store_true", help="grade nothing: put in the rows of --left-out, and write the card's table"
    )
    options = parser.parse_args(arguments)
    if options.card:
        report = json.loads((options.model / "evaluation.json").read_text("utf-8"))
        if options.left_out:
            report = _with(report, list(grade_left_out(dict(options.left_out))))
            _save(report, options.model)
    else:
        torch.manual_seed(helpers.SEED)
        judge = Judge(*helpers.load(options.model, device="cpu"))
        report = list(_grade(judge, options))
        for row in report:
            for laboratory in options.never_saw:
                if row["key"].startswith(laboratory.lower()):
                    row["details"]["never_saw"] = laboratory
        _save(report, options.model)
        print(table_of(report))
    if (options.model / "README.md").exists():
        write_card(options.model)


if __name__ == "__main__":
    main()

"""From one folder and one table to one report, in one call: `evaluate_folder`, or `python -m helpers.evaluate`.

Everything in the report is computed here from one table with a row a picture, and both are written beside it: every
number of the report stands in `…-numbers.csv` with how it was computed, every picture in `…-pictures.csv`.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from . import metrics, plots
from .datasets import concept_columns, image_folder
from .domains import Domain
from .encoding import iter_image_encodings
from .files import check_place, write_csv
from .images import as_shown
from .labels import class_names, folds, own_groups
from .loading import load, unwrap
from .report import write_report
from .scoring import annotate, zero_shot
from .settings import SEED
from .store.provenance import model_name, weights_hash

MISTAKES = 10
"""Pictures among the confident mistakes."""
UNITS_SHOWN = 20
"""Groups in the report's table; all of them stand in the CSV of pictures."""
SQUARE = 0.1
"""A picture counts as far from square when the logarithm of width over height is larger than this."""


@dataclass
class Evaluation:
    """What `evaluate_folder` found. N pictures in the folder.

    Attributes:
        domain: what was asked for: the domain given, with what the table adds to it.
        pictures: DataFrame, one row a picture of the folder, also of those that could not be read: file, group (of the
            column `unit`), label, class (the label as the domain calls it), guess, probability, correct; for each class
            "p: …", for each concept "truth: …" and "score: …"; problem.
        numbers: DataFrame, one row a number of the report: section, item, measure, value, low, high (95 % interval, NaN
            where there is none), pictures, units (groups that were resampled), of (the columns it is computed from).
        sections: heading -> parts, as `helpers.write_report` takes them.
        unit: the column whose groups are resampled together; None: each picture by itself.
        title: of the report.
    """

    domain: Domain
    pictures: pd.DataFrame
    numbers: pd.DataFrame
    sections: dict[str, list[Any]] = field(repr=False)
    unit: str | None
    title: str

    def write(self, out: str | os.PathLike[str]) -> list[Path]:
        """Write the report, and beside it the two tables that it rests on; the three paths."""
        page, *beside = _files_of(out)
        note = f"The numbers of this page are in {beside[1].name}, the pictures that they rest on in {beside[0].name}."
        sections = {**self.sections, "Where every number stands": [note]}
        return [
            write_report(page, self.title, sections),
            write_csv(beside[0], self.pictures),
            write_csv(beside[1], self.numbers),
        ]


def _files_of(out: str | os.PathLike[str]) -> list[Path]:
    """The files of a report: the page, the table of pictures, the table of numbers."""
    if not isinstance(out, (str, os.PathLike)):
        raise TypeError(f"out is a {type(out).__name__}: give the name of a file, such as 'report.html'.")
    page = Path(out)
    if not page.name:
        raise ValueError(f"out is {os.fspath(out)!r}: give the name of a file, such as 'report.html'.")
    return [page, *(page.with_name(f"{page.stem}-{name}.csv") for name in ("pictures", "numbers"))]


def evaluate_folder(
    folder: str | os.PathLike[str],
    table: str | os.PathLike[str] | None = None,
    domain: Any = None,
    *,
    out: str | os.PathLike[str] | None = None,
    model: Any = None,
    processor: Any = None,
    names: Mapping[Any, str] | None = None,
    unit: str | None = None,
    recipe: str = "training",
    window: tuple[float, float] | None = None,
    batch_size: int = 32,
    progress: bool = False,
    title: str | None = None,
) -> Evaluation:
    """Evaluate a model on the pictures of a folder, without training, and write one report.

    Args:
        folder: where the pictures are, as in `helpers.image_folder`.
        table: a CSV with a row a picture: `file`; optionally `label` (the class, in words), a column of groups, and
            columns of 0 and 1 named after concepts, in any order. "folders": the folders are the labels.
        domain: a Domain, or what `Domain.of` takes (a name, a YAML file, a dict). Labels and concept columns are looked
            up in it by name and wording. Without one the table's labels and columns are the words, without a sentence
            around them.
        out: the report's file, such as "report.html"; None writes nothing.
        model, processor: from `helpers.load`; loaded without arguments by default.
        names: label as it stands in the table -> class name, e.g. {"0": "nevus", "1": "melanoma"}.
        unit: the column that says which pictures belong together (a patient, a slide), and are resampled together. By
            default `group`, or the first of the domain's units that is a column.
        recipe: of the concept scores, as in `annotate`.
        window, batch_size, progress: as in `encode_images`.
        title: of the report.

    Returns:
        Evaluation. Pictures that cannot be read are listed in it, and take no part.

    Raises:
        ValueError: as in `helpers.image_folder`; labels that are numbers (give `names`), or that the domain does not
            have; two concept columns that mean one concept; a unit that is no column; nothing to ask for, or no
            picture that can be read.
    """
    domain = None if domain is None else Domain.of(domain)
    if not isinstance(unit, (str, type(None))):
        raise TypeError(f"unit is a {type(unit).__name__}: name one column of the table.")
    if out is not None:  # before the work, not after it
        for file in _files_of(out):
            check_place(file)
            if isinstance(table, (str, os.PathLike)) and os.path.realpath(table) == os.path.realpath(file):
                raise ValueError(f"{file.name!r} is the table, and the report would be written over it. Name another.")
    if (model is None) != (processor is None):
        raise ValueError("Give model and processor together, or neither.")
    texts = dict.fromkeys(["group", "label", *([unit] if unit else []), *(domain.units if domain else ())])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        frame = image_folder(folder, table, text_columns=list(texts), names=names)
    notes = [str(warning.message) for warning in caught]
    for note in notes:
        warnings.warn(note, stacklevel=2)
    unit = _unit(frame, unit, domain)
    asked, columns = domain_of(frame, domain, Path(folder).resolve().name or "folder")
    classes = classes_of(frame, asked)
    if model is None:
        model, processor = load()
    pictures = pd.DataFrame({"file": frame["file"]})
    if unit:
        pictures["group"] = frame[unit]
    pictures["label"] = frame.get("label", np.nan)
    pictures["class"] = classes
    options = {"window": window, "batch_size": batch_size, "on_error": "report", "progress": progress}
    scores, shapes = _scores(model, processor, frame, asked, recipe, options)
    pictures = pd.concat([pictures, scores], axis=1)
    for concept, column in columns.items():
        pictures.insert(pictures.columns.get_loc(f"score: {concept}"), f"truth: {concept}", frame[column])
    pictures["problem"] = pictures.pop("problem")  # the last column
    result = _Numbers(pictures, unit)
    sections = {
        "What was looked at": _looked_at(result, notes, shapes),
        **_classified(result, list(asked.classes), frame),
        **_concepts(result, list(columns), domain, columns),
        **_groups(result),
        "Methods": _methods(model, asked, recipe, result, len(columns)),
    }
    found = Evaluation(
        domain=asked,
        pictures=pictures,
        numbers=result.table(),
        sections={heading: parts for heading, parts in sections.items() if parts},
        unit=unit,
        title=title or f"{Path(folder).resolve().name}, seen by {model_name(unwrap(model))[0]}",
    )
    if out is not None:
        found.write(out)
    return found


# --- what is asked ----------------------------------------------------------------------------------------------------


def _unit(frame: pd.DataFrame, unit: str | None, domain: Domain | None) -> str | None:
    own = [column for column in frame.columns if column not in ("path", "file", "label")]
    if unit is not None and unit not in own:
        there = ", ".join(map(repr, own)) or "no column for it"
        raise ValueError(f"There is no column {unit!r} to keep together. The table has: {there}.")
    if unit is None:
        unit = next((column for column in ("group", *(domain.units if domain else ())) if column in own), None)
    return unit if unit and frame[unit].notna().any() else None


def domain_of(table: pd.DataFrame, domain: Any = None, name: str = "folder") -> tuple[Domain, dict[str, str]]:
    """What is to be asked of the pictures of a table: a domain, with what the table adds to it.

    Args:
        table: from `helpers.image_folder`.
        domain: as in `evaluate_folder`.
        name: of the domain, where the table is all there is.

    Returns:
        (the Domain, concept -> column): a column of 0 and 1 belongs to the concept that it is named after, in any of
        the domain's wordings; else it is a concept of its own. A domain without classes gets those of the table.

    Raises:
        ValueError: labels that are numbers; two columns that mean one concept; nothing to ask for.
    """
    domain = None if domain is None else Domain.of(domain)
    columns: dict[str, str] = {}
    for column in concept_columns(table):
        concept = (domain.find(column) if domain else None) or column
        if concept in columns:
            raise ValueError(
                f"The columns {columns[concept]!r} and {column!r} both mean the concept {concept!r}. Keep one of them."
            )
        columns[concept] = column
    labels = sorted(set(table["label"].dropna())) if "label" in table else []
    classes = class_names(labels, what="label") if labels else []
    new = [concept for concept in columns if domain is None or concept not in domain.concepts]
    if domain is None:
        if not classes and not columns:
            raise ValueError(
                "There is nothing to ask for: the table has no label and no column of 0 and 1. Add one, or give a "
                "domain."
            )
        return Domain(name, classes=classes, concepts=new), columns
    entries = domain.to_dict()
    entries["concepts"] = {**entries.get("concepts", {}), **{concept: concept for concept in new}}
    entries["classes"] = entries.get("classes") or classes
    return Domain.from_dict(entries), columns


def classes_of(table: pd.DataFrame, domain: Domain) -> pd.Series:
    """Each picture's label as the domain calls it: text, NaN where there is none.

    Raises:
        ValueError: a label that the domain does not have.
    """
    if "label" not in table:
        return pd.Series(np.nan, index=table.index, dtype=object)
    meant = {label: domain.find(label, "classes") for label in table["label"].dropna().unique()}
    for label, found in meant.items():
        if found is None:
            raise ValueError(
                f"The label {label!r} is no class of {domain.name!r}. It has: "
                f"{', '.join(map(repr, domain.classes))}. Say what it means with names={{{label!r}: …}}, or add it to "
                "the domain."
            )
    return table["label"].map(meant).astype(object)


def linear_probe(features: Any, labels: Any, groups: Any = None, *, most: int = 5) -> pd.DataFrame:
    """What a linear model says of pictures that it has not learned from: each is judged by the fold that left it out.

    Args:
        features: float [N, D].
        labels: [N] class names, none missing.
        groups: [N]; a group stays on one side. None: each picture by itself.
        most: folds at most; fewer where the data allow no more (`labels.folds`).

    Returns:
        DataFrame [N, K] of probabilities, a column a class; a class that a fold could not learn has 0 there.

    Raises:
        ValueError: as in `labels.folds`: one class only, or one group only.
    """
    from sklearn.linear_model import LogisticRegression

    x, y = np.asarray(features, dtype=float), np.asarray(labels, dtype=object)
    found = pd.DataFrame(0.0, index=range(len(y)), columns=sorted(set(y)))
    for learn, test in folds(y, groups, most=most):
        seen = sorted(set(y[learn]))
        if len(seen) == 1:
            found.loc[test, seen[0]] = 1.0
        else:
            model = LogisticRegression(C=100, max_iter=5000).fit(x[learn], y[learn].astype(str))
            found.loc[test, list(model.classes_)] = model.predict_proba(x[test])
    return found


def _scores(
    model: Any, processor: Any, frame: pd.DataFrame, domain: Domain, recipe: str, options: dict[str, Any]
) -> tuple[pd.DataFrame, pd.Series]:
    """Each picture's scores, batch by batch, so that patch vectors of one batch only are held; and their shapes."""
    ask_classes, ask_concepts = bool(domain.classes), bool(domain.concepts)
    tables, problems = [], pd.Series(np.nan, index=frame.index, dtype=object)
    tokens = ask_concepts and recipe != "global"
    for part in iter_image_encodings(model, processor, frame["path"].tolist(), tokens=tokens, **options):
        for failure in part.failures.to_dict("records"):
            problems.iloc[failure["item"]] = failure["problem"]
        if not len(part):
            continue
        found = []
        if ask_classes:
            answers = zero_shot(model, processor, part, domain)
            found.append(pd.DataFrame({"guess": answers.idxmax(axis=1), "probability": answers.max(axis=1)}))
            found.append(answers.add_prefix("p: "))
        if ask_concepts:
            found.append(annotate(model, processor, part, domain, recipe=recipe).add_prefix("score: "))
        rows = part.index.tolist()
        tables.append(
            pd.concat([pd.DataFrame(index=pd.Index(part.names, dtype=object)), *found], axis=1).set_axis(rows)
        )
    scores = pd.concat(tables).reindex(frame.index)
    shapes = pd.Series(np.nan, index=frame.index)
    for row in scores.index[problems.isna()]:
        width, height = as_shown(frame["path"][row]).size
        shapes[row] = np.log(width / height)
    return scores.assign(problem=problems), shapes


# --- numbers ----------------------------------------------------------------------------------------------------------


class _Numbers:
    """The table of pictures, the groups that are resampled together, and every number as it is computed."""

    def __init__(self, pictures: pd.DataFrame, unit: str | None):
        self.pictures, self.unit = pictures, unit
        self.groups = None if unit is None else own_groups(pictures["group"].tolist(), len(pictures))
        self.read = pictures["problem"].isna()
        known = pictures["class"].notna() & self.read
        self.rows = pictures[known] if "guess" in pictures else pictures.iloc[:0]
        if "guess" in pictures:
            pictures.insert(pictures.columns.get_loc("probability") + 1, "correct", np.nan)
            pictures.loc[known, "correct"] = (pictures["guess"] == pictures["class"])[known].astype(float)
            self.rows = pictures[known]
        self.rows_of_table: list[dict[str, Any]] = []

    def clusters(self, rows: pd.DataFrame) -> np.ndarray | None:
        return None if self.groups is None else self.groups[rows.index.to_numpy()]

    def add(self, section: str, item: str, measure: str, value: Any, rows: pd.DataFrame, of: str) -> Any:
        """Write a number down: an Estimate, or a plain one; it is given back."""
        low, high = (value.low, value.high) if isinstance(value, metrics.Estimate) else (np.nan, np.nan)
        units = len(rows) if self.groups is None else len(np.unique(self.groups[rows.index.to_numpy()]))
        self.rows_of_table.append(
            {
                "section": section,
                "item": item,
                "measure": measure,
                "value": float(value),
                "low": low,
                "high": high,
                "pictures": len(rows),
                "units": units,
                "of": of,
            }
        )
        return value

    def table(self) -> pd.DataFrame:
        columns = ["section", "item", "measure", "value", "low", "high", "pictures", "units", "of"]
        return pd.DataFrame(self.rows_of_table, columns=columns)


# --- sections ---------------------------------------------------------------------------------------------------------


def _looked_at(result: _Numbers, notes: Sequence[str], shapes: pd.Series) -> list[Any]:
    pictures, read = result.pictures, result.read
    lost = pictures[~read]
    section, labelled = "data", pictures["class"].notna()
    add = result.add
    add(section, "folder", "pictures", len(pictures), pictures, "file")
    add(section, "folder", "could be read", int(read.sum()), pictures, "problem")
    add(section, "folder", "with a label", int(labelled.sum()), pictures, "label")
    far = int((shapes.abs() > SQUARE).sum())
    add(section, "folder", "far from square", far, pictures[read], "the pictures' width and height")
    text = f"{len(pictures)} pictures, {read.sum()} of them readable, {labelled.sum()} with a label."
    if result.unit:
        named = pictures["group"]
        groups = add(section, result.unit, "groups", int(named.nunique()), pictures, "group")
        text += f" {groups} groups by the column {result.unit!r}."
        if named.isna().any():
            text += f" {named.isna().sum()} pictures name none: each stands alone."
    parts: list[Any] = [text]
    if far:
        parts.append(f"{far} pictures are far from square. The model sees every picture squashed to a square.")
    parts += list(notes)
    counts = pictures.loc[labelled, "class"].value_counts()
    if len(counts):
        parts.append(counts.rename_axis("class").to_frame("pictures"))
        for name, count in counts.items():
            add(section, str(name), "pictures of the class", count, pictures[pictures["class"] == name], "class")
    if len(lost):
        parts += ["These could not be read, and take no part:", lost[["file", "problem"]].reset_index(drop=True)]
    return parts


def _classified(result: _Numbers, classes: list[str], frame: pd.DataFrame) -> dict[str, list[Any]]:
    rows, add, section = result.rows, result.add, "classes"
    if len(classes) == 1:
        return {"Which class?": [f"There is one class only, {classes[0]!r}: nothing to choose between."]}
    if not len(rows):
        return {}
    clusters = result.clusters(rows)
    own, correct = rows["class"].to_numpy(), rows["correct"].to_numpy()
    guess, sure = rows["guess"].to_numpy(), rows["probability"].to_numpy(dtype=float)
    accuracy = metrics.accuracy(own, guess, clusters=clusters)
    balanced = metrics.balanced_accuracy(own, guess, clusters=clusters)
    calibration = metrics.expected_calibration_error(correct, sure, clusters=clusters)
    share = float(rows["class"].value_counts(normalize=True).iloc[0])
    summary = {
        "accuracy": add(section, "all", "accuracy", accuracy, rows, "class, guess"),
        "always the most frequent class": add(section, "all", "share of the most frequent class", share, rows, "class"),
        "balanced accuracy": add(section, "all", "balanced accuracy", balanced, rows, "class, guess"),
        "chance": add(section, "all", "chance of balanced accuracy", 1 / len(classes), rows, "the domain's classes"),
    }
    found = {}
    for name in classes:
        of_class = rows[rows["class"] == name]
        if len(of_class):
            hits = metrics.bootstrap_mean(of_class["correct"], clusters=result.clusters(of_class))
            found[name] = (add(section, name, "share found", hits, of_class, "class, guess"), len(of_class))
    for (truth, said), pair in rows.groupby(["class", "guess"]):
        add("confusion", f"{truth} → {said}", "pictures", len(pair), pair, "class, guess")
    confusion = plots.confusion(own, guess, classes)
    per_class = pd.DataFrame.from_dict(found, orient="index", columns=["share found (95% interval)", "pictures"])
    add("calibration", "all", "expected calibration error", calibration, rows, "correct, probability")
    mean = add("calibration", "all", "mean probability of the guess", float(sure.mean()), rows, "probability")
    bins = metrics.reliability_table(correct, sure, clusters=clusters)
    for row in bins.itertuples():
        of_bin, place = rows[(sure >= row.low) & ((sure < row.high) | (row.high == 1))], f"{row.low:.1f}–{row.high:.1f}"
        add("calibration", place, "mean probability of the guess", row.predicted, of_bin, "probability")
        add("calibration", place, "share right", row.estimate, of_bin, "correct, probability")
    reliability = plots.reliability(bins)
    wrong = rows[rows["correct"] == 0].nlargest(MISTAKES, "probability", keep="all").head(MISTAKES)
    mistakes = wrong[["file", "label", "guess", "probability"]].reset_index(drop=True)
    mistakes.insert(0, "picture", [as_shown(frame["path"][row]) for row in wrong.index])
    return {
        "Which class?": [
            "Zero-shot, from the class names alone.",
            pd.DataFrame({"value (95% interval)": summary}),
            per_class,
            _closed(confusion),
        ],
        "How sure, and how often right?": [
            f"On average the model gives its answer {mean:.2f}, and is right in {accuracy.value:.2f} of the pictures; "
            f"expected calibration error {calibration}.",
            _closed(reliability),
        ],
        "Most confident mistakes": [
            f"The {len(mistakes)} wrong answers that the model is surest of. Look at picture and label first."
            if len(mistakes)
            else "No answer is wrong.",
            *([mistakes] if len(mistakes) else []),
        ],
    }


def _concepts(
    result: _Numbers, concepts: list[str], domain: Domain | None, columns: Mapping[str, str]
) -> dict[str, list[Any]]:
    rows, add, section = result.pictures[result.read], result.add, "concepts"
    table, scored = {}, {}
    for concept in concepts:
        known = rows[rows[f"truth: {concept}"].notna()]
        truth, of = known[f"truth: {concept}"], f"truth: {concept}, score: {concept}"
        positive = int(add(section, concept, "pictures that have it", int(truth.sum()), known, f"truth: {concept}"))
        value = metrics.UNDEFINED
        if 0 < positive < len(known):
            value = metrics.auroc(truth, known[f"score: {concept}"], clusters=result.clusters(known))
            scored[concept] = add(section, concept, "AUROC", value, known, of)
        shown = str(value) if concept in scored else "none: all or no pictures have it"
        table[concept] = (shown, positive, len(known) - positive)
    if not table:
        return {}
    parts: list[Any] = [
        "Each concept by itself, from its words alone. AUROC 0.5 is chance, 1 is perfect.",
        pd.DataFrame.from_dict(table, orient="index", columns=["AUROC (95% interval)", "have it", "have it not"]),
    ]
    if domain is not None and (own := [column for c, column in columns.items() if c not in domain.concepts]):
        parts.append(f"Not in the domain {domain.name!r}, so asked for by the column's name: {', '.join(own)}.")
    if scored:
        parts.append(_closed(plots.estimates(pd.DataFrame({"AUROC": scored}), line=0.5)))
    if len(scored) > 1:
        truth = rows[[f"truth: {concept}" for concept in scored]].to_numpy(dtype=float)
        scores = rows[[f"score: {concept}" for concept in scored]].to_numpy(dtype=float)
        macro = metrics.macro_auroc(truth, scores, clusters=result.clusters(rows))
        add(section, "all", "macro AUROC", macro, rows, "all truth, all score")
        parts.insert(1, f"Mean over {len(scored)} concepts: {macro}.")
    return {"Which concepts?": parts}


def _groups(result: _Numbers) -> dict[str, list[Any]]:
    rows, unit = result.rows, result.unit
    if unit is None or rows["class"].nunique() < 2:
        return {}
    named = rows[rows["group"].notna()]
    table = named.groupby("group")["correct"].agg(pictures="size", right="sum", share="mean").rename_axis(unit)
    for name, row in table.iterrows():
        result.add("groups", str(name), "share right", row["share"], named[named["group"] == name], "group, correct")
    table["right"] = table["right"].astype(int)
    shown = table.sort_values(["share", "pictures"], ascending=[True, False]).head(UNITS_SHOWN)
    text = f"Right answers by {unit!r}"
    text += f", the {len(shown)} of {len(table)} with the lowest share." if len(shown) < len(table) else "."
    return {"Groups": [text, shown]}


def _methods(model: Any, domain: Domain, recipe: str, result: _Numbers, truths: int) -> list[Any]:
    together = f"the groups of {result.unit!r}" if result.unit else "pictures"
    model = unwrap(model)
    name, revision = model_name(model)
    parts = [
        f"Model: {name}{f' at revision {revision}' if revision else ''}, "
        f"{sum(p.numel() for p in model.parameters()):,} parameters, weights {weights_hash(model)[:12]} (the beginning "
        f"of their SHA-256, as `helpers.store` writes it), {str(model.dtype).removeprefix('torch.')} on "
        f"{model.device.type}. Pictures are squashed to {model.config.vision_config.image_size} pixels a side.",
        f"Domain: {domain.name}." + (f" {domain.source}" if domain.source else ""),
    ]
    if len(domain.classes) > 1:
        parts.append(
            f"Classes: softmax over {len(domain.classes)} classes of the scaled cosine between the picture and the "
            f"mean direction of a class's prompts. Sentences: {_quoted(domain.templates)}. Wordings: "
            f"{'; '.join(f'{name}: {_quoted(words)}' for name, words in domain.classes.items())}."
        )
    if truths:
        parts.append(
            f"Concepts: recipe {recipe!r} of helpers.annotate, without a reference prompt. Sentences: "
            f"{_quoted(domain.concept_templates)}. Wordings: "
            f"{'; '.join(f'{name}: {_quoted(words)}' for name, words in domain.concepts.items())}."
        )
    parts.append(
        f"Intervals: 95 %, percentile bootstrap, {metrics.RESAMPLES} resamples of {together}, seed {SEED}. Nothing "
        "was trained or chosen on these pictures."
    )
    packages = ("conceptclip-notebooks", "torch", "transformers", "numpy", "scikit-learn", "pillow")
    parts.append("Versions: " + ", ".join(f"{name} {version(name)}" for name in packages) + ".")
    return parts


def _quoted(texts: Sequence[str]) -> str:
    return ", ".join(f"“{text}”" for text in texts)


def _closed(axes: Any) -> Any:
    """The figure for the report alone: a notebook would show it below the cell, too."""
    import matplotlib.pyplot as plt

    plt.close(axes.figure)
    return axes


# --- from a terminal --------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m helpers.evaluate FOLDER TABLE --domain NAME|FILE --out report.html`; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m helpers.evaluate", description=main.__doc__)
    parser.add_argument("folder", help="where the pictures are")
    parser.add_argument(
        "table", nargs="?", help="a CSV with the column 'file'; or 'folders', whose names are the labels"
    )
    parser.add_argument("--domain", help=f"a YAML or CSV file, or one of: {', '.join(Domain.names())}")
    parser.add_argument("--out", default="report.html", help="the report (default: %(default)s)")
    parser.add_argument("--model", help="a folder or hub id (default: the model that ships)")
    parser.add_argument("--names", nargs="*", metavar="LABEL=CLASS", help="what labels mean, e.g. 0=nevus 1=melanoma")
    parser.add_argument("--unit", help="the column whose groups belong together")
    given = parser.parse_args(arguments)
    import matplotlib as mpl

    mpl.use("Agg")
    try:
        pairs = [entry.partition("=") for entry in given.names or ()]
        if bad := [
            entry for entry, (_, equals, word) in zip(given.names or (), pairs, strict=True) if not equals or not word
        ]:
            raise ValueError(f"--names {bad[0]}: write LABEL=CLASS, as in 0=nevus.")
        model, processor = load(given.model)
        found = evaluate_folder(
            given.folder,
            given.table,
            given.domain,
            out=given.out,
            model=model,
            processor=processor,
            names={label: word for label, _, word in pairs} or None,
            unit=given.unit,
            progress=sys.stderr.isatty(),
        )
    except (ValueError, TypeError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    headline = found.numbers[found.numbers["measure"].isin(["accuracy", "balanced accuracy", "macro AUROC"])]
    for _, row in headline.iterrows():
        print(
            f"{row['measure']}: {metrics.Estimate(row['value'], row['low'], row['high'])}, {row['pictures']} pictures"
        )
    print(f"{len(found.pictures)} pictures; report: {given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

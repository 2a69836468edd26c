"""The gate: names that are words, groups with gaps, folds that the data allow, tables matched by name."""

import numpy as np
import pandas as pd
import pytest

from helpers.labels import by_name, class_names, folds, known, own_groups, words_of


def said(function, *arguments, **how):
    with pytest.raises(ValueError) as error:
        function(*arguments, **how)
    return str(error.value)


@pytest.mark.parametrize(
    ("classes", "named"),
    [
        ([0, 1], "0"),
        (["0", "1"], "'0'"),
        (["band", 1.5], "1.5"),
        (["band", np.int64(3)], "classes[1]"),
        (["band", None], "classes[1]"),
        (["band", np.nan], "classes[1]"),
        (["band", pd.NA], "classes[1]"),
        (["band", " \u200b"], "classes[1]"),
        (["band", "band"], "'band'"),
        (["band ", "band"], "'band'"),
        (["band", "Band"], "'Band'"),
        (["band cell", "band  cell"], "'band  cell'"),
        (["band", "ba\u200bnd"], r"'ba\u200bnd'"),
        (["B-cell", "b - cell"], "'b - cell'"),
        ([], "classes"),
    ],
)
def test_names_that_cannot_be_classes(classes, named):
    assert named in said(class_names, classes)


def test_names_that_can():
    assert class_names(["None", "NA", " band\u00a0", "CD4", "2 lobes", "naïve"]) == [
        "None",
        "NA",
        "band",
        "CD4",
        "2 lobes",
        "naïve",
    ]
    for classes in ([0, 1], ["0", "1"], [0.0, np.int64(1)]):
        assert class_names(classes, names={0: "round", "1": "band"}) == ["round", "band"]
    assert "2" in said(class_names, [0, 2], names={0: "round"})
    assert words_of("Band\u200b  CELL") == "band cell"


def test_known_labels():
    labels, there = known(["x", None, np.nan, pd.NA, "nan", ""])
    assert there.tolist() == [True, False, False, False, True, True]
    assert labels[there].tolist() == ["x", "nan", ""]
    assert known([0, None, 1], names={0: "a", 1: "b"})[0][[0, 2]].tolist() == ["a", "b"]
    assert "'c'" in said(known, ["c"], names={"a": "b"})
    assert "1" in said(known, ["x", 1])


def test_each_unknown_group_stands_alone():
    groups = own_groups(["007", None, "7", np.nan, "007", pd.NA], 6)
    assert groups[0] == groups[4] and len(set(groups)) == 5
    assert len(set(own_groups(["1.10", "1.1", 7, "7"], 4))) == 4
    assert "groups" in said(own_groups, ["a"], 2)


@pytest.mark.parametrize(
    ("labels", "groups", "number"),
    [
        (list("aabbbbbb"), None, 2),  # a class of two pictures
        (list("ab") * 20, None, 5),
        (list("ab") * 6, ["p1", "p1", "p2", "p2", "p3", "p3"] * 2, 3),  # three groups
        (list("aabb"), ["p1", None, "p2", None], 2),  # gaps
        (list("aaab"), None, 2),  # a class of one
        (list("abcabcabc"), None, 3),
    ],
)
def test_the_number_of_folds_comes_from_the_data(labels, groups, number):
    found = folds(labels, groups)
    assert len(found) == number
    assert sorted(np.concatenate([test for _, test in found])) == list(range(len(labels)))
    own = own_groups(groups, len(labels)) if groups else np.arange(len(labels))
    for learn, test in found:
        assert not set(own[learn]) & set(own[test])
        assert len(learn) + len(test) == len(labels)


def test_what_cannot_be_folded():
    assert "groups" in said(folds, list("abab"), ["p1"] * 4)
    assert "'a'" in said(folds, list("aaa"))
    assert "labels[1]" in said(folds, ["a", None, "b"])


def test_by_name():
    first, second = pd.Series([1, 2], ["x", "y"]), pd.Series([20, 10], ["y", "x"])
    assert by_name(first, second)[1].tolist() == [10, 20]
    for other in (second.tolist(), second.to_numpy(), second.reset_index(drop=True)):
        assert list(by_name(first, other)[1]) == [20, 10]  # no names: by place
    rows = pd.Series([1, 2, 3], [5, 6, 7])
    for other in (pd.Series([1, 2, 3]), pd.Series([1, 2, 3], list("abc")), pd.Series([1, 2, 3], [5, 6, 8])):
        assert said(by_name, rows, other)  # rows of a table that was filtered are names
    assert by_name(pd.Series([1, 2, 3], [2, 0, 1]), pd.Series([7, 8, 9]))[1].tolist() == [9, 7, 8]
    table = pd.DataFrame([[1, 2]], ["r"], ["p", "q"])
    assert by_name(table, table[["q", "p"]])[1].columns.tolist() == ["p", "q"]
    assert "'q'" in said(by_name, table, table[["p"]])
    assert "2 and 3" in said(by_name, [1, 2], [1, 2, 3])
    assert said(by_name, 1, [1])

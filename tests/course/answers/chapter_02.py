import torch

LONGEST = ["thromb", "##ocyt", "##op", "##en", "##ia"]

RIGHT = {
    "02-a": [["he", "##m", "##og", "##l", "##ob", "##in"], ("he", "##m", "##og", "##l", "##ob", "##in")],
    "02-b": [lambda mask: mask.sum(1) - 2, lambda mask: [int(row.nonzero().max()) - 1 for row in mask]],
    "02-c": [lambda s: s.clone().fill_diagonal_(-9).argmax(1)],
}
WRONG = {
    "02-a": [
        ("hemoglobin", "list of pieces"),
        ([12, 40, 7], "ids"),
        (list("qwertzuiop"), "'qwertzuiop'"),
        (["o", "##t", "##or", "##h", "##in", "##ol"], "'otorhinol'"),
        (list("asdf"), "'asdf'"),
        (["[UNK]"], "'[UNK]'"),
        (["leukocyte"], "'leukocyte' is cut into 1"),
        (LONGEST, "'thrombocytopenia' is cut into 5"),
        (["h", *("##" + letter for letter in "emoglobin")], "Let it do the cutting"),
    ],
    "02-b": [
        (lambda mask: mask.sum(1), "behind [SEP]"),
        (lambda mask: mask.sum(1) - 1, "that is [SEP]"),
        (lambda mask: torch.full((len(mask),), 7), "its own length"),
        (lambda mask: mask.sum(1) - 3, "count the real positions"),
    ],
    "02-c": [
        (lambda s: s.argmax(1), "own neighbour"),
        (lambda s: s.clone().fill_diagonal_(0).argmax(1), "own neighbour"),
        (lambda s: s.argsort(1)[:, -2], "own neighbour"),
        (lambda s: s.fill_diagonal_(-9).argmax(1), "work on a copy"),
        (lambda s: s.clone().fill_diagonal_(-9).argmin(1), "own neighbour"),
        (lambda s: s.clone().fill_diagonal_(-9).max(), "shape"),
    ],
}

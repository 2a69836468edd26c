from torch.nn.functional import normalize as unit


def neighbours(x, k):
    return (unit(x, dim=-1) @ unit(x, dim=-1).T).fill_diagonal_(-2).topk(k, dim=1).indices


RIGHT = {
    "03-a": [(0.6, -0.9937), [0.6, -0.99373]],
    "03-b": [10 * 27 + 26],
    "03-c": [neighbours],
}
WRONG = {
    "03-a": [
        ((0.8, 0.0031), "fourth is still to come"),
        ((0.6, 0.8 / 255), "and then the fourth step"),
        ((0.6, -1), "divide by 255 first"),
        (0.6, "(2,)"),
        ((0.6, ...), "1 of 2"),
    ],
    "03-b": [
        (10 * 27 + 25, "do not fill the 384"),
        (26 * 27 + 10, "row by row"),
        (11 * 27 + 27, "counted from 0"),
        (5, "squash the point"),
    ],
    "03-c": [
        (lambda x, k: (unit(x, dim=-1) @ unit(x, dim=-1).T).argsort(dim=1), "shape"),
        (lambda x, k: (unit(x, dim=-1) @ unit(x, dim=-1).T).topk(k, dim=1).indices, "its own neighbour"),
        (lambda x, k: (x @ x.T).fill_diagonal_(-1e9).topk(k, dim=1).indices, "by cosine"),
        (lambda x, k: neighbours(x, k).flip(1), "not the most similar first"),
    ],
}

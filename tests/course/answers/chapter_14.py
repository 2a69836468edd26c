import torch


def labels_needed(counts, values, level):
    stays = float("inf")
    for count, value in zip(reversed(counts), reversed(values), strict=True):
        if value < level:
            break
        stays = count
    return stays


def lora_parameters(shapes, rank):
    return sum(rank * (rows + columns) for rows, columns in shapes)


def mix(before, after, share):
    return {name: (1 - share) * before[name] + share * after[name] for name in before}


def mix_in_place(before, after, share):
    for name in before:
        before[name] += share * (after[name] - before[name])
    return before


RIGHT = {
    "14-a": [labels_needed],
    "14-b": [lora_parameters],
    "14-c": [mix, lambda before, after, share: {n: torch.lerp(before[n], after[n], share) for n in before}],
}
WRONG = {
    "14-a": [
        (
            lambda counts, values, level: next(
                (c for c, v in zip(counts, values, strict=True) if v >= level), float("inf")
            ),
            "falls below again",
        ),
        (lambda counts, values, level: counts[-1], "every value"),
        (lambda counts, values, level: min(labels_needed(counts, values, level), 10**9), "never gets there"),
        (lambda counts, values, level: labels_needed(counts, [v - 1e-9 for v in values], level), "at least that"),
    ],
    "14-b": [
        (lambda shapes, rank: sum(rows * columns for rows, columns in shapes), "frozen weights"),
        (lambda shapes, rank: lora_parameters(shapes, rank) / 2, "two matrices"),
        (lambda shapes, rank: lora_parameters(shapes, rank) + rank, "rows × rank"),
    ],
    "14-c": [
        (lambda before, after, share: mix(after, before, share), "turned round"),
        (lambda before, after, share: {"weight": mix(before, after, share)["weight"]}, "same names"),
        (lambda before, after, share: list(mix(before, after, share).values()), "dict of tensors"),
        (mix_in_place, "was changed"),
        (lambda before, after, share: {name: before[name] + after[name] * share for name in before}, "share × after"),
    ],
}

def newest(rows):
    return rows.sort_values("shard").drop_duplicates("path", keep="last")


def bytes_needed(pictures, width, patches, size):
    return pictures * (1 + patches) * width * size


def useful(rate, size, store):
    return store / (rate * size)


RIGHT = {
    "13-a": [newest, lambda rows: rows.loc[rows.groupby("path")["shard"].idxmax()]],
    "13-b": [bytes_needed],
    "13-c": [useful, lambda rate, size, store: store // (rate * size)],
}
WRONG = {
    "13-a": [
        (lambda rows: rows, "counts twice"),
        (lambda rows: rows.drop_duplicates("path"), "the later shard"),
        (lambda rows: newest(rows).head(2), "you kept 2"),
        (lambda rows: list(rows["path"]), "DataFrame"),
    ],
    "13-b": [
        (lambda pictures, width, patches, size: pictures * width * size, "for each of them"),
        (lambda pictures, width, patches, size: pictures * width * size * max(1, patches), "beside the patches"),
        (lambda *numbers: bytes_needed(*numbers) / 8, "by eight"),
        (lambda *numbers: bytes_needed(*numbers) / numbers[-1], "how many bytes has each"),
        (lambda *numbers: bytes_needed(*numbers) + 1e6, "pictures × vectors"),
    ],
    "13-c": [
        (lambda rate, size, store: store / size, "pictures a second"),
        (lambda rate, size, store: rate * size / store, "turned over"),
        (lambda rate, size, store: 7.5, "divided by"),
    ],
}

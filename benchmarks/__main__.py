"""Paired, interleaved measurements of `encode_images`; a table, a plot, import times and peak memory.

    python -m benchmarks                # all of it, a few minutes
    python -m benchmarks --quick        # every part once, few pictures: does it run?

Of every case all paths run one after the other in each round, and ratios are formed within a round: what else the
machine does then burdens all of them alike. The median over the rounds is told, and the machine's load with it.

Tried and left out: OpenVINO as a second way to run the model. On a processor with AVX-512's bfloat16 instructions and
without AMX, OpenVINO 2026.4, processor time of one thread, ratios to torch in float32 at the released geometry (3 of
its 27 layers; the small model in brackets): OpenVINO in float32 1.04 (1.19), in float16 .66 (.90), in bfloat16 .61
(.83); torch in bfloat16 .60 (.68). All cosines stayed above .9999. The matrix products themselves are slower: the first
layer of a perceptron did 140 billion operations a second in float32 and 82 in bfloat16. Where AMX is there,
`helpers.load(dtype="fastest")` takes bfloat16.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pandas as pd
import psutil
import torch
import torch.nn.functional as F
from PIL import Image
from skimage import data

import helpers
from helpers.conceptclip import ConceptCLIPConfig, ConceptCLIPImageProcessor, ConceptCLIPModel, ConceptCLIPProcessor

OUT = Path(__file__).resolve().parents[1] / "build" / "benchmarks"
SIZES = {"640 × 480": (640, 480), "1500 × 1500": (1500, 1500), "3000 × 2000": (3000, 2000)}
COUNTS = {"640 × 480": 64, "1500 × 1500": 32, "3000 × 2000": 16}
IMPORTS = """
import time
from transformers import AutoModel, AutoProcessor
start = time.perf_counter()
import helpers
print(time.perf_counter() - start)
"""


def photographs(folder: Path, size: tuple[int, int], count: int) -> list[Path]:
    """JPEG files of a photograph, each with noise of its own as a camera adds it."""
    random, paths = np.random.default_rng(0), []
    picture = np.asarray(Image.fromarray(data.immunohistochemistry()).resize(size, Image.Resampling.BICUBIC), np.int16)
    for k in range(count):
        path = folder / f"{size[0]}-{k}.jpg"
        noisy = picture + random.integers(-2, 3, picture.shape, dtype=np.int16)
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(path, quality=90)
        paths.append(path)
    return paths


def released(processor) -> tuple[ConceptCLIPModel, ConceptCLIPProcessor]:
    """Random weights in the released geometry; only the text tower, which pictures do not need, is a small one."""
    text = {"vocab_size": 100, "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ConceptCLIPModel(ConceptCLIPConfig(text_config=text | {"intermediate_size": 24})).eval()
    return model, ConceptCLIPProcessor(ConceptCLIPImageProcessor(), processor.tokenizer)


def paths_of(model, processor, files: list[Path]) -> dict[str, Callable[[], torch.Tensor]]:
    """The ways to the same vectors; the first is the loop that others are compared with."""
    ready = torch.cat([processor(images=[file], return_tensors="pt")["pixel_values"] for file in files])

    def vectors(pixels: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return model.encode_image(pixels, normalize=True)[0]

    def one_by_one() -> torch.Tensor:
        return torch.cat(
            [vectors(processor(images=[Image.open(f)], return_tensors="pt")["pixel_values"]) for f in files]
        )

    return {
        "one-by-one loop": one_by_one,
        "encode_images": lambda: helpers.encode_images(model, processor, files).features,
        'pixels="fast"': lambda: helpers.encode_images(model, processor, files, pixels="fast").features,
        "model alone": lambda: torch.cat([vectors(batch) for batch in ready.split(32)]),
    }


def measured(case: str, paths: dict[str, Callable[[], torch.Tensor]], seconds: float, least: int) -> list[dict]:
    """Rows of the table: rounds of all paths until the time is spent, `least` of them in any case."""
    vectors = {name: run() for name, run in paths.items()}  # to warm up, and to compare
    first, *_ = vectors
    times: dict[str, list[float]] = {name: [] for name in paths}
    until = time.perf_counter() + seconds
    while len(times[first]) < least or time.perf_counter() < until:
        for name, run in paths.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)

    def ratio(above: str, below: str) -> float:
        return statistics.median(a / b for a, b in zip(times[above], times[below], strict=True))

    rows = []
    for name in paths:
        cosine = F.cosine_similarity(vectors[name].double(), vectors[first].double()).min().item()
        rows.append(
            {
                "case": case,
                "path": name,
                "ratio_to_loop": round(ratio(first, name), 2),
                "share_of_model_alone": round(ratio("model alone", name), 2),
                "cosine": round(min(cosine, 1.0), 7),
                "n": len(vectors[name]),
                "cores": torch.get_num_threads(),
                "rounds": len(times[name]),
                "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
            }
        )
        print(
            "  {case:<16}{path:<18}{ratio_to_loop:6.2f} × loop{share_of_model_alone:7.2f} of the model alone".format(
                **rows[-1]
            ),
            flush=True,
        )
    return rows


def import_seconds(times: int) -> float:
    """How long `import helpers` takes once transformers' Auto classes are there; the median of fresh processes."""
    said = [
        subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True).stdout
        for _ in range(times)
    ]
    return statistics.median(map(float, said))


def peak_memory(folder: Path, count: int, reduced: bool) -> float:
    """MB above the loaded model while `count` pictures are encoded, in a process that does nothing else."""
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "--memory",
        str(folder),
        str(count),
        *(["--reduced"] if reduced else []),
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd=OUT.parents[1]).stdout
    return json.loads(said.splitlines()[-1])


def encode_and_watch(folder: Path, count: int, reduced: bool) -> float:
    model, processor = helpers.load()
    files = sorted(folder.glob("640-*.jpg"))
    files = (files * (count // len(files) + 1))[:count]
    process, over = psutil.Process(), Event()
    before = process.memory_info().rss
    peak = [before]

    def watch() -> None:
        while not over.wait(0.01):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = Thread(target=watch)
    watcher.start()
    try:
        if reduced:  # token vectors brought to one number a picture as they come
            for part in helpers.iter_image_encodings(model, processor, files, tokens=True):
                part.tokens.mean((1, 2))
        else:
            helpers.encode_images(model, processor, files)
    finally:
        over.set()
        watcher.join()
    return (peak[0] - before) / 1e6


def plot(table: pd.DataFrame, path: Path) -> None:
    import matplotlib.pyplot as plt
    import seaborn as sns

    others = table[table["path"] != "one-by-one loop"]
    axes = sns.catplot(others, kind="bar", x="ratio_to_loop", y="case", hue="path", height=4, aspect=1.8)
    axes.set(xlabel="times as fast as the one-by-one loop", ylabel="")
    axes.ax.axvline(1, color="black", linewidth=1)
    axes.savefig(path)
    plt.close(axes.figure)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=OUT, help="folder of results.csv, limits.csv and results.png")
    parser.add_argument("--quick", action="store_true", help="every part once, with few pictures")
    parser.add_argument("--seconds", type=float, default=25, help="for each of the four cases")
    parser.add_argument("--memory", nargs=2, metavar=("FOLDER", "COUNT"), help=argparse.SUPPRESS)
    parser.add_argument("--reduced", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    helpers.setup()
    if args.memory:
        print(json.dumps(encode_and_watch(Path(args.memory[0]), int(args.memory[1]), args.reduced)))
        return
    args.out.mkdir(parents=True, exist_ok=True)
    model, processor = helpers.load(dtype="float32")
    seconds, least, rows, limits = (0, 1, [], []) if args.quick else (args.seconds, 3, [], [])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for case, size in SIZES.items():
            files = photographs(folder, size, 4 if args.quick else COUNTS[case])
            rows += measured(case, paths_of(model, processor, files), seconds, least)
            pd.DataFrame(rows).to_csv(args.out / "results.csv", index=False)  # what is measured is kept
        model, processor = released(processor)
        paths = paths_of(model, processor, files[:1] if args.quick else photographs(folder, (640, 480), 2))
        rows += measured("released, 640 × 480", paths, 0, 1 if args.quick else 2)
        del model, paths
        limits.append(("import helpers above transformers' Auto classes", import_seconds(1 if args.quick else 5), "s"))
        for count in (40, 80) if args.quick else (500, 2000):
            for reduced in (False, True):
                what = f"peak above the model, {count} pictures, {'tokens reduced' if reduced else 'vectors'}"
                limits.append((what, peak_memory(folder, count, reduced), "MB"))
    for what, value, unit in limits:
        print(f"  {what}: {value:.2f} {unit}")
    table = pd.DataFrame(rows)
    table.to_csv(args.out / "results.csv", index=False)
    pd.DataFrame(limits, columns=["what", "value", "unit"]).round(2).to_csv(args.out / "limits.csv", index=False)
    plot(table, args.out / "results.png")
    print(f"Load {table['load'].min()} to {table['load'].max()} on {psutil.cpu_count()} cores.")
    print("Written: results.csv, limits.csv, results.png")


if __name__ == "__main__":
    main()

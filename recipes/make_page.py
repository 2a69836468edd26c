"""Write docs/try/index.html: the shipped model in one page that opens from a stick and asks no server for anything.

    python -m recipes.make_page            # write it
    python -m recipes.make_page --check    # say whether it is that of the present model and sources

The parts lie in recipes/page: model.js (both towers), tokenizer.js, pixels.js, worker.js, and what a person sees.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from pathlib import Path

import numpy as np

import helpers
from helpers.bloodcells import CONCEPTS

ROOT = Path(__file__).resolve().parent.parent
PARTS = Path(__file__).with_name("page")
PAGE = ROOT / "docs" / "try" / "index.html"
MODELS = {"mini": "conceptclip-mini", "plain": "conceptclip-mini-plain"}
TITLES = {"mini": "mini", "plain": "mini-plain"}
"""What the page calls them."""
FIRST = ("nucleus", "red blood cells", "a dog")
"""The phrases that stand there when the page opens."""
PROBES = ("a dog", "a skin lesion", "no nucleus", "no red blood cells", "without granules")
"""Looked at beside the bank where two models are compared: words of other worlds, and denials."""
LARGEST = 13_500_000
"""Bytes of the page: it must be downloaded by a phone and copied to a stick."""


def cells() -> list[dict[str, str]]:
    """The pictures of the page: of each type a real and a drawn cell of the test splits."""
    found = []
    for kind, source in (("real", helpers.load_cells("test")), ("drawn", helpers.load_atlas("test"))):
        for cell_type in helpers.bloodcells.CELL_TYPES:
            row = int(np.flatnonzero(source.table["cell_type"] == cell_type)[0])
            path = source.images.paths[row]
            suffix = path.suffix.lower().lstrip(".")
            found.append(
                {
                    "name": path.name,
                    "kind": kind,
                    "title": cell_type,
                    "type": f"image/{'jpeg' if suffix == 'jpg' else suffix}",
                    "data": base64.b64encode(path.read_bytes()).decode(),
                }
            )
    return found


def pieces(folder: Path) -> list[str]:
    """A model's vocabulary in the order of its ids."""
    vocabulary = json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
    return sorted(vocabulary, key=vocabulary.get)


def page() -> str:
    """The whole page as text; the same for the same model, pictures and sources."""
    folders = {name: ROOT / "data" / folder for name, folder in MODELS.items()}
    folders = {name: folder for name, folder in folders.items() if (folder / "config.json").is_file()}
    configs = {name: json.loads((folder / "config.json").read_text("utf-8")) for name, folder in folders.items()}
    data = {
        "models": configs,
        "titles": {name: TITLES[name] for name in folders},
        "pieces": {name: pieces(folder) for name, folder in folders.items()},
        "pictures": cells(),
        "first": FIRST,
        "bank": [concept.phrases[0] for concept in CONCEPTS.values()],
        "probes": PROBES,
    }
    weights = "\n".join(
        f'<script type="text/plain" data-weights="{name}">'
        f"{base64.b64encode((folder / 'model.safetensors').read_bytes()).decode()}</script>"
        for name, folder in folders.items()
    )
    source = {path.name: path.read_text("utf-8").rstrip() for path in PARTS.iterdir()}
    engine = "\n\n".join(source[name] for name in ("model.js", "tokenizer.js", "pixels.js", "worker.js"))
    # The page itself checks a file before it is decoded, by the same function.
    filled = {
        "css": source["page.css"],
        "data": json.dumps(data, ensure_ascii=False).replace("</", "<\\/"),
        "weights": weights,
        "engine": engine,
        "app": source["pixels.js"] + "\n\n" + source["app.js"],
    }
    result = source["page.html"]
    for name, text in filled.items():
        result = result.replace("{{" + name + "}}", text)
    return result + "\n"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page is not the present one")
    options = parser.parse_args(arguments)
    new = page()
    if (size := len(new.encode())) > LARGEST:
        print(f"The page would have {size / 1e6:.1f} MB, and at most {LARGEST / 1e6:.1f} are wanted.", file=sys.stderr)
        return 1
    if options.check:
        if PAGE.is_file() and PAGE.read_text("utf-8") == new:
            return 0
        print(
            f"{PAGE.relative_to(ROOT)} is not that of the present model: python -m recipes.make_page", file=sys.stderr
        )
        return 1
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    beside = PAGE.with_suffix(".part")
    beside.write_text(new, "utf-8")
    beside.replace(PAGE)
    print(f"{PAGE.relative_to(ROOT)}: {size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())

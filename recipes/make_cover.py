"""Draw the README's picture: rendered cells and where conceptclip-mini sees what.

python -m recipes.make_cover
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

import helpers
from helpers import plots

PHRASES = ("nucleus", "cytoplasm", "eosinophilic granules", "cytoplasmic vacuoles", "red blood cells")


def choose(table) -> list[int]:
    """Rows of the test half that show much: an eosinophil, a vacuolated monocyte, a neutrophil."""
    wanted = (
        (table.cell_type == "eosinophil") & (table.cell_size == "big"),
        (table.cell_type == "monocyte") & (table["cytoplasmic vacuoles"] == 1),
        (table.cell_type == "neutrophil") & (table["segmented nucleus"] == 1),
    )
    shown = (table["red cells"] == 1) & (table.split == "test")
    return [int(table.index[rows & shown][0]) for rows in wanted]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/concept-maps.webp"))
    options = parser.parse_args(arguments)
    helpers.setup()
    model, processor = helpers.load(device="cpu")
    atlas = helpers.load_atlas()
    cells = atlas[choose(atlas.table)]
    images = list(cells.images)
    maps = helpers.concept_maps(model, processor, images, list(PHRASES))
    plots.concept_map_grid(images, maps, list(PHRASES), helpers.patch_grid(model))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    plt.savefig(options.out, dpi=110, bbox_inches="tight", pil_kwargs={"quality": 88, "method": 6})


if __name__ == "__main__":
    main()

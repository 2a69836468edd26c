"""Drawn stand-ins for folders of other fields: no photographs, but the shapes of what people bring."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw, ImageFilter


def skin_picture(seed: int, kind: str, veil: bool, streaks: bool) -> Image.Image:
    """A brown spot on skin: round for a nevus, uneven for a melanoma, pearly for a carcinoma."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (200, 160), tuple(int(v) for v in rng.integers((225, 180, 160), (245, 200, 185))))
    draw = ImageDraw.Draw(image)
    edge = {"nevus": 2, "melanoma": 16, "basal cell carcinoma": 7}[kind]
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    radius = 45 + rng.normal(0, edge, 40)
    corners = [(100 + r * np.cos(a), 80 + r * np.sin(a)) for r, a in zip(radius, angles, strict=True)]
    draw.polygon(
        corners, fill={"nevus": (120, 75, 50), "melanoma": (60, 35, 30), "basal cell carcinoma": (205, 140, 130)}[kind]
    )
    if veil:
        draw.ellipse((80, 60, 125, 95), fill=(120, 140, 190))
    if streaks:
        for corner in corners[::3]:
            draw.line((100, 80, *corner), fill=(40, 25, 20), width=3)
    return image.filter(ImageFilter.GaussianBlur(1.5))


def skin_folder(folder: Path, count: int = 24, kinds=("nevus", "melanoma", "basal cell carcinoma")) -> pd.DataFrame:
    """Drawn skin spots with a table: file, patient, label, two concepts; saved beside the folder as table.csv."""
    rows = []
    for n in range(count):
        kind, veil, streaks = kinds[n % len(kinds)], n % 4 == 1, n % 5 < 2
        file = f"lesion-{n:02}.png"
        folder.mkdir(parents=True, exist_ok=True)
        skin_picture(n, kind, veil, streaks).save(folder / file)
        rows.append(
            {
                "file": file,
                "blue whitish veil": int(veil),
                "patient": f"P{n // 3:03}",
                "label": kind,
                "Irregular streaks": int(streaks),
            }
        )
    table = pd.DataFrame(rows)
    table.to_csv(folder.parent / "table.csv", index=False)
    return table


def xray_picture(seed: int, opacity: bool, effusion: bool) -> Image.Image:
    """Two dark lungs in a grey chest, a white patch for an opacity, a white base for an effusion."""
    rng = np.random.default_rng(seed)
    image = Image.new("L", (180, 200), int(rng.integers(130, 160)))
    draw = ImageDraw.Draw(image)
    for left in (25, 100):
        draw.ellipse((left, 30, left + 55, 170), fill=int(rng.integers(25, 50)))
    draw.ellipse((75, 90, 125, 165), fill=185)
    if opacity:
        x, y = rng.integers((30, 60), (60, 120))
        draw.ellipse((x, y, x + 25, y + 30), fill=170)
    if effusion:
        draw.rectangle((100, 140, 160, 175), fill=175)
    noise = rng.normal(0, 6, (200, 180))
    grey = np.asarray(image.filter(ImageFilter.GaussianBlur(3)), dtype=float) + noise
    return Image.fromarray(grey.clip(0, 255).astype(np.uint8))


def xray_folder(folder: Path, count: int = 20) -> pd.DataFrame:
    """Drawn chests with a table: file, label, study, three concepts (one in a wording of the domain)."""
    rows = []
    for n in range(count):
        opacity, effusion = n % 2 == 1, n % 3 == 0
        file = f"chest-{n:02}.jpg"
        folder.mkdir(parents=True, exist_ok=True)
        xray_picture(n, opacity, effusion).save(folder / file, quality=92)
        rows.append(
            {
                "file": file,
                "label": "pneumonia" if opacity else "normal",
                "fluid in the pleural space": int(effusion),
                "study": f"S{n // 2}" if n % 5 else "",
                "lung opacity": int(opacity),
                "pneumothorax": 0,
            }
        )
    table = pd.DataFrame(rows)
    table.to_csv(folder.parent / "table.csv", index=False)
    return table

"""Take the explorers' pictures for the notebooks and the README from what their browser tests saw.

python -m pytest tests/test_explorer_browser.py && python -m tools.screenshots
"""

from PIL import Image

from tools.chapters import BUILD, ROOT

NAMES = ("concept_explorer", "cell_designer")


def main() -> None:
    """build/screenshots/NAME.png → docs/NAME.webp"""
    for name in NAMES:
        with Image.open(BUILD / "screenshots" / f"{name}.png") as picture:
            picture.convert("RGB").save(ROOT / "docs" / f"{name}.webp", quality=82, method=6)


if __name__ == "__main__":
    main()

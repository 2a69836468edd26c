"""A ConceptCLIP that is not the shipped one, in released form: 384 pixels, 27 × 27 patches, narrow, one layer, random.

    python tests/random_released.py build/random-released

It answers nothing sensibly. It is there to show that the notebooks run on another model, as on the released one.
"""

import json
import shutil
import sys
from pathlib import Path

from reference_conceptclip import config_json, random_weights
from safetensors.torch import save_file

MINI = Path(__file__).resolve().parents[1] / "data" / "conceptclip-mini"
# The text tower is narrower than the joint space, as in the released model and other than in the shipped one.
NARROW = {
    "width": 48,
    "layers": 1,
    "heads": 4,
    "mlp": 96,
    "image": 384,
    "patch": 14,
    "text_width": 32,
    "text_layers": 1,
    "text_heads": 4,
    "text_mlp": 64,
    "vocabulary": json.loads((MINI / "config.json").read_text(encoding="utf-8"))["text_config"]["vocab_size"],
    "positions": 128,
}


def write_random(folder: Path) -> Path:
    """Write the same model every time, with the shipped model's tokenizer, into a new folder."""
    folder.mkdir(parents=True)
    save_file(random_weights(NARROW), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config_json(NARROW)), encoding="utf-8")
    for name in ("tokenizer.json", "tokenizer_config.json", "processor_config.json"):
        shutil.copyfile(MINI / name, folder / name)
    processor = json.loads((folder / "processor_config.json").read_text(encoding="utf-8"))
    processor["image_processor"]["size"] = {"height": NARROW["image"], "width": NARROW["image"]}
    (folder / "processor_config.json").write_text(json.dumps(processor), encoding="utf-8")
    return folder


if __name__ == "__main__":
    print("Written:", write_random(Path(sys.argv[1])).name)

"""Write data/SHA256SUMS anew, after something in data/ was made anew: `python -m tools.checksums`.

The file is in the format of `sha256sum --check`; `python -m helpers.doctor` and the tests compare the data with it.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from helpers.doctor import CHECKSUMS, DATA


def write(folder: Path = DATA) -> int:
    """List every file below `folder` with its sum; returns how many there are."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != CHECKSUMS and not p.name.startswith("."))
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder).as_posix()}\n" for p in files]
    (folder / CHECKSUMS).write_text("".join(lines), encoding="utf-8", newline="\n")
    return len(files)


if __name__ == "__main__":
    print(f"{write()} files in data/{CHECKSUMS}")

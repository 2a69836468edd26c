"""Lines of code in each room of helpers, without blank ones, comments and docstrings: `python -m tools.lines`."""

import ast
import io
import tokenize
from collections import Counter
from pathlib import Path

from tools.chapters import ROOT

BESIDE_THE_CORE = ("bloodcells", "course", "explorer")
NO_CODE = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}


def lines(file: Path) -> int:
    text = file.read_text(encoding="utf-8")
    code: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in NO_CODE:
            code |= set(range(token.start[0], token.end[0] + 1))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            code -= set(range(node.lineno, node.end_lineno + 1))
    return len(code)


def rooms() -> Counter[str]:
    """Lines of each folder and file directly below helpers."""
    found: Counter[str] = Counter()
    for file in (ROOT / "helpers").rglob("*.py"):
        found[file.relative_to(ROOT / "helpers").parts[0].removesuffix(".py")] += lines(file)
    return found


if __name__ == "__main__":
    counted = rooms()
    for room, count in counted.most_common():
        print(f"{count:>6}  {room}")
    print(f"{sum(count for room, count in counted.items() if room not in BESIDE_THE_CORE):>6}  in the core")

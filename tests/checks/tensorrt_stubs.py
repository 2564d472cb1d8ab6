"""Put TensorRT's type stubs into a folder of their own, for mypy: python tests/checks/tensorrt_stubs.py FOLDER

Not among the packages of the environment: `tensorrt-stubs` depends on TensorRT itself, whose wheel fetches its
libraries from NVIDIA, and a folder of stubs in site-packages looks like an installed TensorRT to importlib. The stubs
are generated, and a few of their lines are not Python (a parameter named `in`); those are mended here.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tempfile
from pathlib import Path

STUBS = "tensorrt-stubs==10.13.0.35.1"
_MENDS = (
    (re.compile(r"\bin: (list\[)"), r"in_: \1"),
    (re.compile(r"^import tensorrt_libs.*$", re.MULTILINE), ""),
    # The module has a variable named bool, which its own annotations then mean.
    (re.compile(r"(-> |\w: )bool\b"), r"\1builtins.bool"),
    (
        re.compile(r"^from __future__ import annotations$", re.MULTILINE),
        "from __future__ import annotations\nimport builtins",
    ),
)


def main(folder: Path) -> int:
    """Download, mend, check that every file is Python, and put in place."""
    with tempfile.TemporaryDirectory() as temporary:
        fetch = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--no-deps"]
        subprocess.run([*fetch, "--target", temporary, STUBS], check=True)
        for source in sorted(Path(temporary).rglob("*.pyi")):
            text = source.read_text(encoding="utf-8")
            for pattern, replacement in _MENDS:
                text = pattern.sub(replacement, text)
            text = _give_defaults(text)
            ast.parse(text)
            target = folder / source.relative_to(temporary)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
    return 0


def _give_defaults(text: str) -> str:
    """A parameter without a default after one with a default is no Python: give it one."""
    while True:
        try:
            ast.parse(text)
        except SyntaxError as error:
            if error.lineno is None or "default" not in str(error.msg):
                raise
            lines = text.split("\n")
            before = lines[error.lineno - 1]
            head, default, rest = before.partition(" = ")
            lines[error.lineno - 1] = head + default + re.sub(r"(\w+: [\w.\[\]]+)(?=[,)])", r"\1 = ...", rest)
            if lines[error.lineno - 1] == before:
                raise
            text = "\n".join(lines)
        else:
            return text


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))

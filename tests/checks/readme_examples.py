"""Run README's examples, in order, in a folder that holds examples/: console blocks' `$ commands`, and python blocks.

A command must exit as README says (`# exit 2` behind it, else 0), and each line of output shown must come out again.
Figures may differ, and so may what a busy machine changes: units of time, the verdicts, VALID. `...` stands for
lines left out. Blocks marked `sh` are shown, not run.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.M | re.S)
TIMEOUT_S = 600


def normal(line: str) -> str:
    """A line without what may differ from run to run."""
    line = re.sub(r"\([0-9a-f]{12}\)", "(KEY)", line)
    line = re.sub(r"\d[\d.,]*(?:e[+-]?\d+)?", "#", line)
    line = re.sub(r"-?# (?:s|ms|us|ns)\b", "#", line).replace("-#", "#")
    line = line.replace("< #", "#")
    line = re.sub(r"\b(?:same|faster|slower)\b", "VERDICT", line)
    line = re.sub(r"^(?:VALID|INVALID: .*)$", "VALIDITY", line.strip())
    return re.sub(r"\s+", " ", line).strip()


def steps(text: str) -> list[tuple[str, list[str], int]]:
    """The commands of a console block: (command, lines shown, exit code)."""
    found: list[tuple[str, list[str], int]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            command, _, comment = line[2:].partition("  # exit ")
            found.append((command, [], int(comment or 0)))
        elif found and line.strip() not in ("", "..."):
            found[-1][1].append(line)
    return found


def run(command: str, shown: list[str], code: int, folder: str) -> list[str]:
    """Run one command, with a cache of its own; return what is wrong with it."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "200", "EDGELINE_CACHE": str(Path(folder, "cache"))}
    result = subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    output = result.stdout + result.stderr
    wrong = [] if result.returncode == code else [f"exit code {result.returncode}, README says {code}: {output[-500:]}"]
    lines = {normal(line) for line in output.splitlines()}
    return wrong + [f"this line did not come out: {line}" for line in shown if normal(line) not in lines]


def main() -> int:
    failures = count = 0
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "examples", Path(folder, "examples"))
        for kind, text in BLOCK.findall((ROOT / "README.md").read_text(encoding="utf-8")):
            examples = steps(text)
            if kind == "python":
                Path(folder, "example.py").write_text(text, encoding="utf-8")
                examples = [("python example.py", [], 0)]
            for command, shown, code in examples:
                print(f"$ {command}", flush=True)
                wrong = run(command, shown, code, folder)
                for line in wrong:
                    print(f"  {line}")
                count += 1
                failures += bool(wrong)
    print(f"{count - failures} of {count} examples of README.md run as shown")
    return 1 if failures or not count else 0


if __name__ == "__main__":
    sys.exit(main())

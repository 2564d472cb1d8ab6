"""A file has one concern and at most 400 lines: list those that have more, and exit 1."""

import subprocess
import sys
from pathlib import Path

CAP = 400
SUFFIXES = {".py", ".c", ".h", ".html"}


def main() -> int:
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True)
    paths = [Path(line) for line in listed.stdout.splitlines() if Path(line).suffix in SUFFIXES]
    counts = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in paths if path.exists()}
    too_long = {path: count for path, count in counts.items() if count > CAP}
    for path, count in sorted(too_long.items()):
        print(f"{path}: {count} lines, the cap is {CAP}")
    print(f"{len(counts)} files, longest {max(counts.values())} lines")
    return 1 if too_long else 0


if __name__ == "__main__":
    sys.exit(main())

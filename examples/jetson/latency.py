"""The time of one inference at a time, with the runtime alone: `python latency.py ARTEFACT`.

A first figure, on a device that benchmark-model (PyTorch, Python 3.11) is too large for. It does not pin or interleave,
and a clock that changes goes into the figures.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

import edgeline
from edgeline.errors import EdgelineError
from edgeline.selftest import read_selftest

WARM_UP_S, MEASURED_S = 1.0, 5.0


def main() -> int:
    """Time session.infer on the self-test's inputs; print percentiles."""
    parser = argparse.ArgumentParser(description="Time one inference at a time.")
    parser.add_argument("artefact", metavar="ARTEFACT")
    parser.add_argument("--seconds", type=float, default=MEASURED_S, help="how long to measure")
    given = parser.parse_args()
    try:
        with edgeline.load(given.artefact) as session:
            taken = _times(session, min(WARM_UP_S, given.seconds), given.seconds)
            where = f"{session.engine} ({session.device})"
    except EdgelineError as error:
        print(f"latency.py: {error}", file=sys.stderr)
        return error.exit_code
    p50, p90, p99 = np.percentile(taken, (50, 90, 99)) * 1e6
    print(f"{len(taken)} inferences of batch 1 on {where}: p50 {p50:.1f} us, p90 {p90:.1f} us, p99 {p99:.1f} us")
    return 0


def _times(session: edgeline.Session, warm_up_s: float, seconds: float) -> list[float]:
    """Return the seconds of each inference of the measured time."""
    fixed = session.manifest.inputs[0].shape[0]
    inputs = read_selftest(session.artefact).inputs
    samples = [inputs[i : i + 1] for i in range(len(inputs))] if fixed in (-1, 1) else [inputs[:fixed]]
    taken: list[float] = []
    begin = time.perf_counter()
    while (now := time.perf_counter()) < begin + warm_up_s + seconds:
        session.infer(samples[len(taken) % len(samples)])
        if now >= begin + warm_up_s:
            taken.append(time.perf_counter() - now)
    return taken


if __name__ == "__main__":
    raise SystemExit(main())

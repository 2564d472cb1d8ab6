"""The artefact as the service uses it: an image in, a record for JSON out, and its self-test."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import edgeline
from edgeline.errors import EdgelineError, GateError, InputError
from edgeline.selftest import read_selftest, run_selftest


class Model:
    """A session that has passed its self-test. Its methods may be called from several threads."""

    def __init__(self, folder: Path, device: str, health_s: float) -> None:
        """Load and test it.

        Raises what edgeline.load and run_selftest raise; InputError for a network that takes no grey images.
        """
        self._session = edgeline.load(folder, device=device, threads=1)
        manifest = self._session.manifest
        if manifest.preprocessing is None or manifest.inputs[0].shape[1:2] != (1,):
            raise InputError(f"{folder} does not take grey images; this service is for networks that do")
        version = hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()  # it holds the others' hashes
        self._identity = {"model": folder.name, "version": version[:12]}
        self._selftest = read_selftest(self._session.artefact)  # once: the folder may be gone at the next test
        self._health_s = health_s
        self._health_lock = threading.Lock()
        self._tested_at = time.monotonic()
        self._health = self._test()
        if self._health["status"] != "ok":
            raise GateError(self._health["error"])

    def classify(self, image: npt.NDArray[np.uint8]) -> Mapping[str, Any]:
        """Classify uint8 [H, W]. Raises InputError for an image of the wrong size, GateError for outputs like NaN."""
        logits = self._session.infer_all(self._session.preprocess(image[np.newaxis])).reshape(-1)
        if not np.isfinite(logits).all():
            raise GateError("an output is NaN or infinite")
        shares = np.exp(logits.astype(np.float64) - logits.max())
        best = int(shares.argmax())
        label = self._session.labels[best] if self._session.labels else str(best)
        return {"class": best, "label": label, "probability": float(shares[best] / shares.sum()), **self._identity}

    def health(self) -> Mapping[str, Any]:
        """Return the result of the self-test, which is run at most once in `health_s`, however often this is asked."""
        with self._health_lock:
            if time.monotonic() - self._tested_at >= self._health_s:
                self._tested_at = time.monotonic()
                self._health = self._test()
            return {**self._health, "age_s": round(time.monotonic() - self._tested_at, 3)}

    def close(self) -> None:
        """Give the engine's memory back."""
        self._session.close()

    def _test(self) -> Mapping[str, Any]:
        try:
            result = run_selftest(self._session, self._selftest)
        except EdgelineError as error:
            return {"status": "failing", "error": str(error), **self._identity}
        numbers = {"max_abs_diff": result.max_abs_diff, "tolerance": result.tolerance, "worker": os.getpid()}
        return {"status": "ok", "engine": self._session.engine, **numbers, **self._identity}

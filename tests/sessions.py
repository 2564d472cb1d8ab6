"""What every engine's session owes its caller, for LeNet: checked in the same way for each of them."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from edgeline.errors import InputError
from edgeline.session import Session

_DIGITS = np.random.default_rng(7).standard_normal((64, 1, 28, 28)).astype(np.float32)


def check_memory(session: Session, size: int = 8) -> None:
    """Batches are read wherever they lie and stay as they are; results are the caller's, in `out` wherever that is."""
    batch = _DIGITS[:size].copy()
    first = session.infer(batch)
    logits = first.copy()
    other = session.infer(batch * 2)
    np.testing.assert_array_equal(first, logits)
    assert not np.array_equal(other, logits)
    first[...] = 0
    np.testing.assert_array_equal(session.infer(batch), logits)

    sealed = batch.copy()
    sealed.flags.writeable = False
    memory = np.empty(batch.size + 1, np.float32)
    shifted = memory[1:].reshape(batch.shape)  # not where vectors begin
    shifted[...] = batch
    for same in (sealed, shifted, np.asfortranarray(batch), np.repeat(batch, 2, axis=0)[::2]):
        np.testing.assert_array_equal(session.infer(same), logits)

    plain = np.empty_like(logits)
    scattered = np.empty((size, 20), np.float32)[:, ::2]
    for out in (plain, scattered, np.asfortranarray(plain), plain):
        out[...] = np.nan
        assert session.infer(batch, out=out) is out
        np.testing.assert_array_equal(out, logits)
    np.testing.assert_array_equal(session.infer(sealed, out=np.empty_like(logits)), logits)
    np.testing.assert_array_equal(batch, _DIGITS[:size])

    overlapped = memory[:-1].reshape(batch.shape)
    overlapped[...] = batch
    session.infer(overlapped, out=memory[: logits.size].reshape(logits.shape))
    np.testing.assert_array_equal(memory[: logits.size].reshape(logits.shape), logits)


def check_calls_at_once(session: Session, calls: int = 20) -> None:
    """Four threads that call at the same time, with batches of their own, get what one gets."""
    batches = [_DIGITS[k : k + 1 + 3 * k] for k in range(4)]
    expected = [session.infer(batch) for batch in batches]
    wrong = []

    def call(batch: np.ndarray, logits: np.ndarray) -> None:
        try:
            wrong.extend(len(batch) for _ in range(calls) if not np.array_equal(session.infer(batch), logits))
        except Exception as error:
            wrong.append(error)

    threads = [threading.Thread(target=call, args=pair) for pair in zip(batches, expected, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def check_closing(session: Session) -> None:
    """A session can be closed twice, says so when it is called, and its results outlive it."""
    found = session.infer(_DIGITS[:8])
    kept = found.copy()
    session.close()
    session.close()
    with pytest.raises(InputError, match="is closed; load it again"):
        session.infer(_DIGITS[:8])
    np.testing.assert_array_equal(found, kept)

"""A call made slower by a known share: how the harness checks that it sees what it should see. No measuring here."""

from __future__ import annotations

import time
from collections.abc import Callable


def slowed(call: Callable[[], object], share: float) -> Callable[[], object]:
    """Return a call that runs `call` and then keeps the core busy for `share` of the time that it took."""
    clock = time.perf_counter_ns

    def slow() -> object:
        started = clock()
        result = call()
        ended = clock()
        until = ended + (ended - started) * share
        while clock() < until:
            pass
        return result

    return slow

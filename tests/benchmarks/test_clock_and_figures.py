import numpy as np
import pytest

from edgeline_bench import clock, figures, units
from edgeline_bench.percentiles import percentile_s


class Counter:
    """A call that counts itself and can be told how long to take, on a clock of the test's own."""

    def __init__(self, monkeypatch, seconds):
        self.calls, self.now, self.seconds = 0, 0.0, seconds
        monkeypatch.setattr(clock.time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(clock.time, "perf_counter_ns", lambda: round(self.now * 1e9))

    def __call__(self):
        duration = self.seconds(self.calls) if callable(self.seconds) else self.seconds
        self.calls += 1
        self.now += duration


def test_every_call_of_a_slot_is_a_sample(monkeypatch):
    call = Counter(monkeypatch, 0.010)
    slot = clock.measure(call, 0.5)
    assert len(slot.samples_s) == slot.calls == 50
    assert slot.samples_s == [0.010] * 50
    assert slot.elapsed_s == pytest.approx(0.5)
    assert call.calls == slot.calls + slot.warmup_calls


def test_a_call_longer_than_the_slot_is_made_once(monkeypatch):
    slot = clock.measure(Counter(monkeypatch, 3.0), 0.5)
    assert (slot.calls, slot.warmup_calls, slot.samples_s) == (1, 1, [3.0])


def test_fast_calls_are_sampled_evenly_not_by_their_time(monkeypatch):
    call = Counter(monkeypatch, lambda index: 20e-6 if index % 7 else 40e-6)
    slot = clock.measure(call, 1.0)
    assert slot.calls > 40_000
    assert 1_000 < len(slot.samples_s) <= clock.MAX_SAMPLES * 1.2
    # One call in seven is slow; so is one recorded sample in seven.
    assert np.mean(np.array(slot.samples_s) > 30e-6) == pytest.approx(1 / 7, abs=0.02)


def test_warm_up_goes_on_until_blocks_agree(monkeypatch):
    call = Counter(monkeypatch, lambda index: 0.001 + 0.010 * 0.98**index)
    slot = clock.measure(call, 4.0)
    assert slot.warmup_calls > 50
    assert max(slot.samples_s) < 0.0045


def test_overhead_is_that_of_an_empty_call():
    assert 0 < clock.overhead_s() < 1e-4


def test_percentiles_are_nearest_rank_and_withheld():
    samples = list(range(1, 101))
    assert percentile_s(samples, 50) == 50
    assert percentile_s(samples, 90) == 90
    assert percentile_s(samples, 99) is None
    assert percentile_s(list(range(1, 663)), 99) == 656  # ceil(0.99 * 662)
    assert percentile_s(samples[:63], 90) is None
    assert percentile_s(samples[:64], 90) == 58  # ceil(0.9 * 64)


def test_drift_and_spread_by_hand():
    assert figures.drift([1, 1, 1, 5, 5, 5, 1.2, 1.2, 1.2]) == pytest.approx(0.2)
    assert figures.drift([1, 2]) == 0
    assert figures.relative_spread([8, 9, 10, 11, 12]) == pytest.approx(1.4826 * 1 / 10)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (2.44, "2.44 s"),
        (1.5e-3, "1.5 ms"),
        (31.42e-6, "31.4 us"),
        (5e-8, "50 ns"),
        (0.9999, "1,000 ms"),
        (1234.0, "1,234 s"),
    ],
)
def test_seconds(value, text):
    assert units.seconds(value) == text

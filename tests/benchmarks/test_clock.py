"""The clock on simulated time, and the percentiles that a number of queries can carry."""

import fractions
import math

import numpy as np
import pytest
from scipy import stats

from edgeline_bench import clock, percentiles
from edgeline_bench.percentiles import Withheld
from tests.benchmarks.simulated_clock import SimulatedClock, SimulatedEngine


class SteppingClock(SimulatedClock):
    """Every reading costs 25 ns."""

    def now_ns(self):
        self.now += 25
        return self.now


def test_the_overhead_is_measured_in_the_slot_and_never_subtracted():
    time = SteppingClock()
    slot = clock.measure(SimulatedEngine(time, 10e-6), 0.01, time)
    assert slot.clock_overhead_s == pytest.approx(25e-9)
    assert set(slot.samples_s) == {10.025e-6}
    assert clock.overhead_share(slot) == pytest.approx(25 / 10_025)


def test_the_overhead_is_no_matter_for_a_slow_engine():
    time = SteppingClock()
    assert clock.overhead_share(clock.measure(SimulatedEngine(time, 60e-6), 0.01, time)) is None


def test_warm_up_ends_when_two_blocks_agree():
    time = SimulatedClock()
    engine = SimulatedEngine(time, lambda index: 0.004 if index < 5 else 0.001)
    # Blocks of 20 ms: 5 calls of 4 ms, 20 of 1 ms, 20 of 1 ms.
    assert clock.warm_up(engine, 10.0, time) == clock.WarmUp(45, 0.001)


def test_warm_up_that_never_settles_ends_with_its_time():
    time = SimulatedClock()
    engine = SimulatedEngine(time, lambda index: 0.020 * 1.1**index)
    warmup = clock.warm_up(engine, 1.0, time)
    # The sum of 20 ms x 1.1^k passes 1 s with the 19th call: 0.2 x (1.1^19 - 1) = 1.02, with 18 0.91.
    assert warmup.calls == 19
    assert warmup.call_s == pytest.approx(0.020 * 1.1**18)


@pytest.mark.parametrize(("last_s", "warmup_calls"), [(None, 2), (0.9, 2), (1.0, 0), (60.0, 0)])
def test_calls_of_a_second_warm_up_once_and_not_every_turn(last_s, warmup_calls):
    time = SimulatedClock()
    slot = clock.measure(SimulatedEngine(time, 1.5), 10.0, time, last_s)
    assert (slot.warmup_calls, slot.calls) == (warmup_calls, 7)


def test_the_system_clock_waits_until_the_moment():
    time = clock.SystemClock()
    for wait_ns in (2_000_000, 50_000, -5):
        moment = time.now_ns() + wait_ns
        time.wait_until_ns(moment)
        assert time.now_ns() >= moment


# --- percentiles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("percent", [90, 95, 99, 99.9])
def test_the_limits_are_those_of_early_stopping(percent):
    """MLPerf's rule: at confidence 0.99, with one query slower than the percentile among n, by the binomial law."""
    n = percentiles.MIN_SAMPLES[percent]
    share_above = 1 - percent / 100
    assert stats.binom.cdf(1, n, share_above) < 0.01 <= stats.binom.cdf(1, n - 1, share_above)


@pytest.mark.parametrize("percent", [50, 90, 95, 99, 99.9])
@pytest.mark.parametrize("count", [6_636, 7_000, 10_000, 12_345])
def test_percentiles_are_the_nearest_rank(percent, count):
    samples = np.random.default_rng(count).exponential(size=count).tolist()
    share = fractions.Fraction(str(percent)) / 100  # exact; numpy's own percentile is one rank off at 99.9 % of 10,000
    expected = sorted(samples)[math.ceil(share * count) - 1]
    assert percentiles.percentile(samples, percent) == expected
    assert percentiles.percentile_s(samples, percent) == expected


def test_the_rank_is_exact_where_floats_are_not():
    assert percentiles.rank(1_000, 99.9) == 999
    assert percentiles.rank(662, 99) == 656
    assert percentiles.rank(1, 50) == 1


def test_what_n_cannot_carry_is_withheld_with_the_n_it_takes():
    found = percentiles.percentile([1.0] * 210, 99)
    assert found == Withheld(99, 662, 210)
    assert str(found) == "p99 needs 662 queries, there were 210"
    assert str(percentiles.percentile([1.0], 99.9)) == "p99.9 needs 6,636 queries, there was 1"
    assert percentiles.percentile_s([1.0] * 661, 99) is None
    assert percentiles.percentile([1.0] * 662, 99) == 1.0

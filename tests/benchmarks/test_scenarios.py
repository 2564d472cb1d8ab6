"""The four scenarios on simulated time, with an engine of known speed: counts, latencies and rates follow by hand."""

import itertools
import math
import random
import statistics

import pytest

from edgeline.errors import InputError, UnknownNameError
from edgeline_bench.clock import MAX_SAMPLES
from edgeline_bench.scenarios import SCENARIOS, Setting, check_batch, scenario_from_name, server
from tests.benchmarks.simulated_clock import SimulatedClock, SimulatedEngine

CALL_S = 0.001


@pytest.fixture
def time():
    return SimulatedClock()


@pytest.fixture
def engine(time):
    return SimulatedEngine(time, CALL_S)


# --- the table --------------------------------------------------------------------------------------------------------


def test_the_table_is_mlperfs():
    """Percentiles by MLPerf Inference's rules: SingleStream 90, MultiStream and Server 99, Offline none."""
    assert {name: scenario.percent for name, scenario in SCENARIOS.items()} == {
        "single-stream": 90, "multi-stream": 99, "server": 99, "offline": None,
    }  # fmt: skip
    with pytest.raises(UnknownNameError, match="did you mean offline"):
        scenario_from_name("ofline")


@pytest.mark.parametrize(
    ("name", "fitting", "unfit"), [("multi-stream", (1, 2, 4, 8), 16), ("server", (1,), 8), ("offline", (1, 300), None)]
)
def test_batches_that_a_query_cannot_be_made_of_are_refused(name, fitting, unfit):
    for batch in fitting:
        check_batch(name, batch)
    if unfit is not None:
        with pytest.raises(InputError, match=f"scenario {name} takes batches of .*, not {unfit}: --batch"):
            check_batch(name, unfit)


# --- streams and offline ----------------------------------------------------------------------------------------------


def test_single_stream(time, engine):
    turn = SCENARIOS["single-stream"].run(engine, Setting(batch=4, slot_s=0.5), time)
    assert (turn.queries, turn.samples_per_query) == (500, 4)
    assert turn.samples_s == [CALL_S] * 500
    assert turn.throughput_per_s == pytest.approx(4 / CALL_S)
    assert engine.calls == turn.queries + turn.warmup_calls


@pytest.mark.parametrize(("batch", "calls"), [(8, 1), (4, 2), (1, 8)])
def test_a_multi_stream_query_is_eight_samples(time, engine, batch, calls):
    turn = SCENARIOS["multi-stream"].run(engine, Setting(batch, slot_s=0.8), time)
    assert turn.samples_per_query == 8
    assert turn.queries == 800 / calls
    assert turn.samples_s == [pytest.approx(calls * CALL_S)] * turn.queries
    assert engine.calls == turn.queries * calls + turn.warmup_calls


def test_a_multi_stream_query_of_other_batches_is_refused(time, engine):
    with pytest.raises(InputError, match="8 samples cannot be made of batches of 3"):
        SCENARIOS["multi-stream"].run(engine, Setting(3, 0.1), time)


def test_offline_tells_samples_per_second(time, engine):
    turn = SCENARIOS["offline"].run(engine, Setting(batch=64, slot_s=0.5), time)
    assert turn.throughput_per_s == pytest.approx(64_000)


# --- server: the queue ------------------------------------------------------------------------------------------------


def test_a_query_waits_for_those_before_it(time, engine):
    """Served one at a time, in order: by hand, with calls of 1 ms."""
    arrivals = [0, 200_000, 400_000, 5_000_000]
    latencies = server.serve(engine, arrivals, time.now + 1_000, time)
    assert latencies == [1_000_000, 1_800_000, 2_600_000, 1_000_000]
    assert time.waits == 2  # for the first and the last; the others had arrived already


def test_lateness_of_the_wait_is_in_the_latency():
    time = SimulatedClock(lateness_ns=30_000)
    assert server.serve(SimulatedEngine(time, CALL_S), [0], time.now + 1, time) == [1_030_000]


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_the_mean_wait_is_pollaczek_and_khinchines(load):
    """M/D/1: with constant service time s the mean wait is load x s / (2 (1 - load))."""
    means = []
    for seed in range(5):
        time = SimulatedClock()
        arrivals = server.poisson_arrivals_ns(load / CALL_S, 100_000, seed)
        latencies = server.serve(SimulatedEngine(time, CALL_S), arrivals, time.now, time)
        means.append(statistics.fmean(latencies) * 1e-9 - CALL_S)
    assert statistics.fmean(means) == pytest.approx(load * CALL_S / (2 * (1 - load)), rel=0.03)


def test_arrivals_are_poisson():
    gaps = [b - a for a, b in itertools.pairwise(server.poisson_arrivals_ns(500.0, 50_000, 3))]
    assert statistics.fmean(gaps) == pytest.approx(2e6, rel=0.02)
    assert statistics.stdev(gaps) == pytest.approx(2e6, rel=0.02)  # exponential: deviation and mean are equal
    assert sum(gap > 4e6 for gap in gaps) / len(gaps) == pytest.approx(math.exp(-2), rel=0.03)


def test_arrivals_follow_from_the_seed_and_scale_with_the_rate():
    slow, fast = (server.poisson_arrivals_ns(rate, 100, seed=7) for rate in (100.0, 400.0))
    assert slow == server.poisson_arrivals_ns(100.0, 100, seed=7)
    assert slow != server.poisson_arrivals_ns(100.0, 100, seed=8)
    assert fast == pytest.approx([moment / 4 for moment in slow], abs=1)
    within = server.arrivals_within(100.0, 0.5, seed=7)
    assert within == [moment for moment in slow if moment < 500_000_000]
    assert len(server.arrivals_within(0.001, 0.5, seed=7)) == 1


def test_the_same_arrivals_meet_every_engine():
    seen = []
    for seconds in (1e-6, 1e-5):  # so fast that nobody waits
        time = SimulatedClock()
        engine = SimulatedEngine(time, seconds)
        started = []

        def call(engine=engine, time=time, started=started):
            started.append(time.now)
            engine()

        server.run(call, Setting(1, 1.0, seed=5, rate_per_s=50.0), time)
        gaps = [b - a for a, b in itertools.pairwise(started)]
        seen.append([gap for gap in gaps if gap > 100_000])  # without the warm-up's calls
    assert len(seen[0]) > 31
    assert seen[0][-30:] == seen[1][-30:]


# --- server: a turn ---------------------------------------------------------------------------------------------------


def test_a_turn_serves_what_arrives_within_it(time, engine):
    turn = SCENARIOS["server"].run(engine, Setting(1, 4.0, seed=1, rate_per_s=300.0), time)
    assert turn.queries == len(server.arrivals_within(300.0, 4.0, 1))
    assert turn.queries == pytest.approx(1_200, abs=4 * math.sqrt(1_200))
    assert len(turn.samples_s) == turn.queries
    assert min(turn.samples_s) == CALL_S
    assert turn.throughput_per_s == pytest.approx(300, rel=0.1)


def test_many_queries_are_recorded_evenly(time, engine):
    turn = SCENARIOS["server"].run(engine, Setting(1, 20.0, rate_per_s=300.0), time)
    every = turn.queries // MAX_SAMPLES + 1
    assert every > 1
    assert len(turn.samples_s) == math.ceil(turn.queries / every)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        (Setting(8, 1.0, rate_per_s=10.0), "one sample a query, not batches of 8: --batch 1"),
        (Setting(1, 1.0), "needs a rate above 0, got None: --server-qps"),
        (Setting(1, 1.0, rate_per_s=-1.0), "needs a rate above 0"),
        (Setting(1, 1.0, rate_per_s=math.inf), "needs a rate above 0"),
    ],
)
def test_a_turn_without_what_it_needs_is_refused(time, engine, setting, words):
    with pytest.raises(InputError, match=words):
        SCENARIOS["server"].run(engine, setting, time)


# --- server: the search -----------------------------------------------------------------------------------------------


def p99_by_lindley(rate, count, seed):
    """p99 of the time in an M/D/1 queue by Lindley's recursion, from the gaps alone."""
    gaps, wait, times = random.Random(seed), 0.0, []
    gaps.expovariate(1.0)
    for _ in range(count):
        times.append(wait + CALL_S)
        wait = max(0.0, wait + CALL_S - gaps.expovariate(1.0) / rate)
    return sorted(times)[math.ceil(0.99 * count) - 1]


@pytest.mark.parametrize("bound_s", [0.004, 0.010, 0.025])
def test_the_search_finds_the_highest_rate(time, engine, bound_s):
    found = server.find_rate(engine, bound_s, budget_s=1e6, seed=2, clock=time)
    assert found.resolved
    assert found.latency_bound_s == bound_s
    assert found.rate_per_s < found.failed_per_s <= found.rate_per_s * server.RESOLUTION
    probe = next(p for p in found.probes if p.rate_per_s == found.rate_per_s)
    assert (probe.held, probe.queries) == (True, max(662, math.ceil(found.rate_per_s * bound_s * 100)))
    assert probe.p99_s == pytest.approx(p99_by_lindley(found.rate_per_s, probe.queries, 2), rel=1e-3)
    assert probe.p99_s <= bound_s
    failed = math.ceil(found.failed_per_s * bound_s * 100)
    assert p99_by_lindley(found.failed_per_s, max(662, failed), 2) > bound_s


def test_a_tighter_bound_gives_a_lower_rate():
    rates = []
    for bound_s in (0.002, 0.005, 0.020):
        time = SimulatedClock()
        rates.append(server.find_rate(SimulatedEngine(time, CALL_S), bound_s, 1e6, clock=time).rate_per_s)
    assert rates == sorted(set(rates))
    assert rates[-1] < 1 / CALL_S


@pytest.mark.parametrize(("call_s", "bound_s"), [(0.005, 0.050), (20e-6, 0.010)])
def test_the_default_bound_is_ten_calls_but_not_below_ten_milliseconds(call_s, bound_s):
    time = SimulatedClock()
    found = server.find_rate(SimulatedEngine(time, call_s), budget_s=1e6, clock=time)
    assert found.latency_bound_s == pytest.approx(bound_s)
    assert found.call_s == pytest.approx(call_s)


def test_an_overloaded_probe_is_given_up_once_p99_must_fail(time, engine):
    """662 queries may have 6 above the bound: the seventh ends it."""
    arrivals = server.poisson_arrivals_ns(5 / CALL_S, 662, 0)
    latencies = server.serve(engine, arrivals, time.now + 1, time, bound_s=0.003)
    assert len(latencies) < 662
    assert sum(latency > 3_000_000 for latency in latencies) == 7


def test_a_bound_below_one_call_is_not_searched(time, engine):
    found = server.find_rate(engine, 0.0005, clock=time)
    assert (found.rate_per_s, found.probes, found.resolved) == (None, [], False)
    assert found.why == "one call takes 1 ms, the latency bound is 500 us"


def test_a_search_without_time_says_what_it_takes(time, engine):
    found = server.find_rate(engine, 0.010, budget_s=0.5, clock=time)
    assert found.rate_per_s is None
    assert found.why.startswith("662 queries at 500/s take 1.32 s, the search has 0.")
    started = time.now
    halfway = server.find_rate(engine, 0.010, budget_s=4.0, clock=time)
    assert time.now - started < 4.5e9
    assert halfway.rate_per_s == pytest.approx(750)
    assert not halfway.resolved
    assert halfway.why is not None


def test_an_engine_with_rare_long_calls_never_holds(time):
    engine = SimulatedEngine(time, lambda index: 0.020 if index % 20 == 19 else 0.001)  # 5 % of calls
    found = server.find_rate(engine, 0.010, budget_s=1e9, clock=time)
    assert found.rate_per_s is None
    assert "p99 is above 0.01 s at" in found.why


def test_one_disturbance_does_not_fail_a_rate(time):
    calls = []

    def call():
        calls.append(None)
        time.now += 50_000_000 if len(calls) == 200 else 1_000_000  # once, 50 ms

    found = server.find_rate(call, 0.010, budget_s=1e6, seed=2, clock=time)
    other = SimulatedClock()
    undisturbed = server.find_rate(SimulatedEngine(other, CALL_S), 0.010, budget_s=1e6, seed=2, clock=other)
    assert found.rate_per_s == undisturbed.rate_per_s
    assert len(found.probes) == len(undisturbed.probes) + 1


def test_a_bound_that_is_no_time_is_refused(time, engine):
    with pytest.raises(InputError, match="must be seconds above 0, got 0"):
        server.find_rate(engine, 0.0, clock=time)

import numpy as np
import pytest

from edgeline.errors import GateError
from edgeline_export.ranges import BINS, METHODS, RangeCollector, _entropy_edge


def collect(*batches):
    collector = RangeCollector("t")
    for batch in batches:
        collector.add(np.asarray(batch, np.float32))
    return collector.result()


def test_extent_and_count():
    seen = collect([[-1.5, 0.25]], [[3.0, 0.0]])
    assert (seen.smallest, seen.largest, seen.magnitude) == (-1.5, 3.0, 3.0)
    assert seen.counts.sum() == 4
    assert seen.limit == 4.0


def test_the_histogram_is_numpys():
    values = np.random.default_rng(0).standard_normal(100_000).astype(np.float32)
    seen = collect(*np.array_split(values, 13))
    expected, _ = np.histogram(values, bins=BINS, range=(-seen.limit, seen.limit))
    assert np.abs(np.cumsum(seen.counts) - np.cumsum(expected)).max() <= 20  # float32 rounding at the bins' edges


def test_the_order_of_the_batches_does_not_matter():
    random = np.random.default_rng(1)
    batches = [random.standard_normal(1000) * scale for scale in (0.0, 0.01, 30.0, 1.0)]
    first, second = collect(*batches), collect(*batches[::-1])
    assert (first.smallest, first.largest, first.limit) == (second.smallest, second.largest, second.limit)
    assert np.abs(np.cumsum(first.counts) - np.cumsum(second.counts)).max() <= 2  # a value on an edge of a finer bin


@pytest.mark.parametrize("method", METHODS)
def test_zeros_alone_have_threshold_zero(method):
    assert collect(np.zeros(10)).threshold(method) == 0.0


def test_minmax_keeps_all():
    assert collect([-7.0, 3.0]).threshold("minmax") == 7.0


def test_percentile_drops_one_in_ten_thousand():
    """Of 100,000 uniform magnitudes below 1 and five of 50, 99.99 % lie below about 1."""
    values = np.concatenate([np.random.default_rng(0).uniform(-1, 1, 100_000), np.full(5, 50.0)])
    threshold = collect(values).threshold("percentile")
    assert 0.99 < threshold < 1.05


def test_entropy_cuts_a_long_tail_and_keeps_a_flat_one():
    random = np.random.default_rng(0)
    tail = np.concatenate([random.standard_normal(200_000), [40.0, -35.0]])
    assert 2.0 < collect(tail).threshold("entropy") < 15.0
    flat = random.uniform(-1, 1, 200_000)
    assert collect(flat).threshold("entropy") > 0.95


def test_entropy_is_not_misled_by_zeros():
    """Nine in ten values of a ReLU are zero; they are exact whatever the threshold."""
    values = np.maximum(np.random.default_rng(0).standard_normal(200_000) - 1.3, 0)
    assert collect(values).threshold("entropy") > 1.0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named(bad):
    with pytest.raises(GateError, match="the activation 't' is NaN or infinite"):
        collect([1.0, bad])


def test_percentile_keeps_what_is_more_than_one_in_ten_thousand():
    """Five in ten thousand are no outliers at 99.99 %."""
    values = np.concatenate([np.random.default_rng(0).uniform(-1, 1, 100_000), np.full(50, 50.0)])
    assert collect(values).threshold("percentile") > 49


def migacz_edge(counts, levels=128, step=16):
    """The algorithm as the slides tell it, one bin at a time: the number of bins to keep."""
    last = max(i for i, count in enumerate(counts) if count)
    best, least = None, np.inf
    for edge in [*range(levels, last + 1, step), last + 1]:
        p = [float(count) for count in counts[:edge]]
        p[-1] += sum(counts[edge:])
        q = [0.0] * edge
        members = [[i for i in range(edge) if i * levels // edge == level] for level in range(levels)]
        for bins in members:
            used = [i for i in bins if counts[i] > 0]
            for i in used:
                q[i] = sum(counts[j] for j in bins) / len(used)
        p_sum, q_sum = sum(p), max(sum(q), 1.0)
        divergence = sum(
            (a / p_sum) * np.log((a / p_sum) / max(b / q_sum, 1e-12)) for a, b in zip(p, q, strict=True) if a > 0
        )
        if divergence < least:
            best, least = edge, divergence
    return best


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_entropy_is_the_published_algorithm(seed):
    """In 128 levels: 64 would cut these elsewhere."""
    magnitudes = np.random.default_rng(seed).exponential(40, 200_000).astype(int)
    counts = np.bincount(np.minimum(magnitudes, 599), minlength=600)
    counts[0] = counts[1]
    expected = migacz_edge(counts.tolist())
    assert expected < 600
    assert expected != migacz_edge(counts.tolist(), levels=64)
    assert _entropy_edge(counts) == expected

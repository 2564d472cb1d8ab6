"""Any number of samples on engines with fixed batch sizes."""

import numpy as np
import pytest

from edgeline.backends.fixed_batches import pieces_of, run_in_pieces


@pytest.mark.parametrize(
    ("count", "sizes", "pieces"),
    [
        (8, (1, 8, 64), [8]),
        (1, (1, 8, 64), [1]),
        (10, (1, 8, 64), [8, 1, 1]),
        (130, (1, 8, 64), [64, 64, 1, 1]),
        (3, (8,), [8]),
        (9, (4, 8), [8, 4]),
    ],
)
def test_pieces_are_the_largest_that_fit(count, sizes, pieces):
    assert pieces_of(count, sizes) == pieces


@pytest.mark.parametrize("count", [1, 3, 4, 5, 11])
def test_outputs_come_in_order_and_fillings_are_dropped(count):
    seen = []

    def run(batch):
        assert batch.flags.c_contiguous
        seen.append(len(batch))
        return batch[:, :1] * 10

    batch = np.arange(count * 3, dtype=np.float32).reshape(count, 3)
    np.testing.assert_array_equal(run_in_pieces(batch, (4, 2), run), batch[:, :1] * 10)
    assert set(seen) <= {2, 4}
    assert sum(seen) - count in (0, 1)

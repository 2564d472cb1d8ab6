import numpy as np
import pytest

from edgeline_export.paired import paired_accuracy


def outcomes(both, only_reference, only_other, neither):
    reference = [True] * (both + only_reference) + [False] * (only_other + neither)
    other = [True] * both + [False] * only_reference + [True] * only_other + [False] * neither
    return np.array(reference), np.array(other)


def test_mcnemar_by_hand():
    # Ten lost, two won: twice the lower tail of Binomial(12, 1/2) at 2 = 2 * (1 + 12 + 66) / 4096.
    result = paired_accuracy(*outcomes(80, 10, 2, 8))
    assert result.mcnemar_p == pytest.approx(2 * 79 / 4096)
    assert (result.reference, result.other) == (0.90, 0.82)
    assert result.drop == pytest.approx(0.08)


def test_interval_by_hand():
    # Agresti and Min (2005): n = 102, b = 10.5, c = 2.5; centre 8/102, standard error sqrt(13 - 64/102) / 102.
    result = paired_accuracy(*outcomes(80, 10, 2, 8))
    centre, error = 8 / 102, (13 - 64 / 102) ** 0.5 / 102
    assert result.drop_ci95 == pytest.approx((centre - 1.959964 * error, centre + 1.959964 * error))
    assert result.drop_ci95[0] < 0.08 < result.drop_ci95[1]


def test_no_difference():
    result = paired_accuracy(*outcomes(90, 0, 0, 10))
    assert result.mcnemar_p == 1.0
    assert result.drop == 0.0
    assert result.drop_ci95[0] < 0 < result.drop_ci95[1]


def test_the_interval_covers_the_truth_about_95_times_in_100():
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(1_000):
        cells = random.multinomial(500, [0.90, 0.04, 0.02, 0.04])
        low, high = paired_accuracy(*outcomes(*cells)).drop_ci95
        covered += low <= 0.02 <= high
    assert 0.93 < covered / 1_000 < 0.975

"""rounded_u8.c in both its forms, floats and integers, against numpy's float32: random sums, halves, near halves."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgeline_export.c.emit import KERNELS
from tests.export.c.harness import SANITIZERS, WARNINGS, compiler
from tests.export.c.on_boards import needed

SOURCE = Path(__file__).with_name("rounded.c")
CASES = 400_000


def near_halves(random):
    """Sums whose product is as near to n + 1/2 as a whole sum comes, and their neighbours; the smaller the nearer."""
    factor = (2.0 ** random.uniform(-24, 0, CASES)).astype(np.float32)
    half = random.integers(-300, 300, CASES) + 0.5
    return np.rint(half / factor.astype(np.float64)) + random.integers(-1, 2, CASES), factor


def exact_halves(random):
    """Factors of few bits: products that are n + 1/2 exactly."""
    exponent = random.integers(1, 20, CASES)
    factor = (random.choice([1, 3, 5, 7, 11], CASES) * 2.0**-exponent).astype(np.float32)
    return random.integers(-300, 300, CASES) * 2.0 ** (exponent - 1), factor


def random_sums(random):
    factor = (2.0 ** random.uniform(-30, 2, CASES)).astype(np.float32)
    return random.standard_normal(CASES) * 2.0 ** random.uniform(0, 31, CASES), factor


def beyond_24_bits(random):
    """Sums that are rounded already when they become floats."""
    factor = (2.0 ** random.uniform(-31, -16, CASES)).astype(np.float32)
    half = random.integers(-300, 300, CASES) + 0.5
    return np.rint(half / factor.astype(np.float64)) + random.integers(-1, 2, CASES), factor


def odd_factors(random):
    """From the smallest number above 0 to very large ones."""
    factor = np.float32(2.0) ** random.integers(-149, 127, CASES).astype(np.float32)
    return random.integers(-(2**31), 2**31, CASES) >> random.integers(0, 31, CASES), factor


KINDS = (near_halves, exact_halves, random_sums, beyond_24_bits, odd_factors)


def check(command):
    """Hold a program made of rounded.c against numpy."""
    random = np.random.default_rng(6)
    for kind in KINDS:
        wide, factor = kind(random)
        sums = np.clip(wide, -(2**31), 2**31 - 1).astype(np.int64).astype(np.int32)
        zero = random.integers(0, 256, CASES)
        low = np.where(random.integers(0, 2, CASES), 0, zero)
        high = np.where(random.integers(0, 2, CASES), 255, 200 + zero // 5)
        low = np.minimum(low, high)
        records = np.stack([sums, factor.view(np.int32), low, high, zero], 1).astype(np.int32)
        done = subprocess.run(command, input=records.tobytes(), capture_output=True, check=True)
        with np.errstate(over="ignore", under="ignore"):
            product = sums.astype(np.float32) * factor
        expected = np.clip(np.rint(np.clip(product, -1000, 1000)).astype(np.int64) + zero, low, high)
        found = np.frombuffer(done.stdout, np.int32)
        wrong = np.flatnonzero(found != expected)
        assert len(wrong) == 0, (kind.__name__, sums[wrong[:3]], factor[wrong[:3]], found[wrong[:3]])
        assert len(np.unique(found)) > 100 or kind is odd_factors


@pytest.mark.parametrize("flags", [(), ("-DEDGELINE_FIXED_POINT",), ("-DEDGELINE_SCALAR",)])
def test_every_form_rounds_as_float32_does(tmp_path, flags):
    program = tmp_path / "rounded"
    subprocess.run(
        [compiler("gcc"), "-std=c99", "-O1", *WARNINGS, "-Wno-unused-function", *SANITIZERS, *flags, f"-I{KERNELS}",
         SOURCE, "-o", program, "-lm"],
        check=True,
    )  # fmt: skip
    check([program])


@pytest.mark.cross
@pytest.mark.parametrize("flags", [("-DEDGELINE_SCALAR",), ("-DEDGELINE_SCALAR", "-DEDGELINE_FIXED_POINT")])
def test_arms_own_rounding(tmp_path, flags):
    """VCVTR, QADD and USAT, as Cortex-M4 has them."""
    needed("arm-linux-gnueabihf-gcc", "qemu-arm")
    program = tmp_path / "rounded"
    subprocess.run(
        ["arm-linux-gnueabihf-gcc", "-std=c99", "-O2", "-static", "-march=armv7-a", "-mfpu=vfpv3-d16",
         *WARNINGS, "-Wno-unused-function", *flags, f"-I{KERNELS}", SOURCE, "-o", program, "-lm"],
        check=True,
    )  # fmt: skip
    check(["qemu-arm", program])


def test_the_cases_are_near_enough_to_halves_to_tell():
    """Rounding once, in float64, is wrong for some of them: the second rounding is seen."""
    wide, factor = near_halves(np.random.default_rng(6))
    product = wide * factor.astype(np.float64)
    twice = np.rint((wide.astype(np.float32) * factor).astype(np.float32))
    assert (np.rint(product) != twice).sum() > 10

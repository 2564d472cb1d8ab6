"""Budgets of a board: what is parsed, what is refused, and in which words."""

import argparse

import pytest

from edgeline.errors import InputError
from edgeline_export.c.boards import BOARDS
from edgeline_export.c.budgets import Budgets, Part, budgets_of, check, size, size_text

M4, M0 = BOARDS["cortex-m4"], BOARDS["cortex-m0plus"]


@pytest.mark.parametrize(
    ("text", "count"),
    [("16KB", 16384), ("96kb", 98304), ("1MB", 1048576), ("16384", 16384), ("16 KB", 16384), ("12KiB", 12288),
     ("7B", 7), ("2K", 2048), ("3M", 3145728)],
)  # fmt: skip
def test_sizes(text, count):
    assert size(text) == count


@pytest.mark.parametrize("text", ["", "KB", "0", "0KB", "-1KB", "1.5KB", "16GB", "16QB", "0x10", "1e3", "16KB 16KB"])
def test_what_is_no_size(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected bytes like 16KB, 1MB or 16384, got"):
        size(text)


@pytest.mark.parametrize(("count", "text"), [(16384, "16KB"), (1048576, "1MB"), (1000, "1000"), (1536, "1536")])
def test_sizes_as_they_are_typed(count, text):
    assert size_text(count) == text
    assert size(text) == count


def test_what_is_not_given_is_the_boards():
    assert budgets_of(None, None, M0) == Budgets(16 << 10, 256 << 10)
    assert budgets_of(4096, None, M0) == Budgets(4096, 256 << 10)
    assert budgets_of(4096, 65536, M0) == Budgets(4096, 65536)


def test_more_than_the_board_has():
    with pytest.raises(InputError, match=r"--ram 17KB is more than the 16KB of the board .*give --ram 16KB$"):
        budgets_of(17 << 10, None, M0)
    with pytest.raises(InputError, match=r"--flash 8MB is more than the 4MB of the board"):
        budgets_of(None, 8 << 20, M4)


def test_what_fits_to_the_byte_is_taken():
    check("net", Budgets(100, 200), M4, (Part("weights", 150), Part("code", 50)), (Part("arena", 100),), "int8")


def test_one_byte_more_is_refused_with_the_figures():
    asked, ram = Budgets(100, 66_000), (Part("arena", 100),)
    with pytest.raises(InputError) as caught:
        check("net in fp32", asked, M4, (Part("code", 2_001), Part("weights", 64_000)), ram, "fp32")
    assert str(caught.value) == (
        "net in fp32 needs 66,001 bytes of flash, 66,000 are to be had: largest weights 64,000, code 2,001; "
        "give --flash 65KB or --precision int8 or a smaller network"
    )
    assert caught.value.exit_code == 2


def test_no_larger_budget_is_named_than_the_board_has():
    with pytest.raises(InputError) as caught:
        check("net in int8", Budgets(16384, 65536), M0, (Part("weights", 1),), (Part("arena", 20_000),), "int8")
    assert str(caught.value) == (
        "net in int8 needs 20,000 bytes of ram, 16,384 are to be had: largest arena 20,000; "
        "give a smaller network (the target's board has 16KB)"
    )

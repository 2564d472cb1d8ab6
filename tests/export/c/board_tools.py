"""The cross tools of the tests for boards; what is missing skips a test by the name of its package."""

import shutil

import pytest

PACKAGES = {
    "arm-none-eabi-gcc": "gcc-arm-none-eabi libnewlib-arm-none-eabi",
    "qemu-system-arm": "qemu-system-arm",
    "cmake": "cmake",
}


def need(*programs):
    """Skip the test where one of these is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: apt-get install {PACKAGES[program]}")

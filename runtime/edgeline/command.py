"""What the six commands share: exit codes, the error line, Ctrl-C, and streams that close early.

A command is a function `body(args) -> int | None` behind an argparse parser. It prints data on stdout and notes on
stderr, and raises the errors of `edgeline.errors`; this module turns them into one line and an exit code.
"""

from __future__ import annotations

import argparse
import errno
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import NoReturn

from edgeline import interrupts
from edgeline.errors import (
    EXIT_FAULT,
    EXIT_INPUT,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_RESOURCE,
    EdgelineError,
)
from edgeline.version import __version__

# torch has no class of its own for it on the CPU: "DefaultCPUAllocator: can't allocate memory", "CUDA out of memory".
_OUT_OF_MEMORY = re.compile(r"can't allocate memory|out of memory")

Body = Callable[[argparse.Namespace], "int | None"]


class Parser(argparse.ArgumentParser):
    """argparse with the house's one-line errors, `--version`, and help that shows defaults."""

    def __init__(self, prog: str, description: str, epilog: str = "") -> None:
        super().__init__(prog, description=description, epilog=epilog, formatter_class=_HelpFormatter)
        if " " not in prog:  # a sub-command's prog is "edgeline info"
            self.add_argument("--version", action="version", version=f"{prog} (edgeline) {__version__}")

    def error(self, message: str) -> NoReturn:
        """Print one line that ends with the command to type for help, and exit 2."""
        self.exit(EXIT_INPUT, f"{self.prog}: {message} ({self.prog} --help lists what it takes)\n")


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Defaults behind each option; description and epilog as written."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, False, argparse.SUPPRESS) or action.nargs == 0:
            return action.help
        return super()._get_help_string(action)


def share(text: str) -> float:
    """Parse a share for argparse: `5%` or `0.05`, at least 0 and at most 1."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"expected a share like 5% or 0.05, got '{text}'")
    return value


def note(message: str) -> None:
    """Print a note or progress line on stderr, where it does not mix with data."""
    print(message, file=sys.stderr, flush=True)


def run_command(parser: argparse.ArgumentParser, body: Body, argv: Sequence[str] | None = None) -> int:
    """Parse `argv` and run `body`; return the exit code of DESIGN's table instead of raising."""
    try:
        args = parser.parse_args(argv)
    except SystemExit as stop:
        return int(stop.code or 0)
    with interrupts.caught():
        return _exit_code(parser.prog, body, args)


def _exit_code(prog: str, body: Body, args: argparse.Namespace) -> int:
    try:
        return _run_to_the_end(body, args)
    except EdgelineError as error:
        note(f"{prog}: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        note(f"{prog}: interrupted")
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader (head, less) went away: not an error of ours. Keep Python from complaining again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_OK
    except MemoryError:
        note(f"{prog}: out of memory; try a smaller --batch or --batch-size")
        return EXIT_RESOURCE
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        note(f"{prog}: {error.filename} is in the way ({error.strerror}); name another place")
        return EXIT_INPUT
    except OSError as error:
        note(f"{prog}: {_os_error_line(error)}")
        return EXIT_RESOURCE
    except Exception as error:  # noqa: BLE001 - the last net: everything expected was caught above
        if isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error)):
            note(f"{prog}: out of memory; try a smaller --batch or --batch-size")
            return EXIT_RESOURCE
        traceback.print_exc()
        note(f"{prog}: this is a fault of edgeline {__version__}, not of yours; please report the lines above")
        return EXIT_FAULT


def _run_to_the_end(body: Body, args: argparse.Namespace) -> int:
    """Run the body; what ends while an interrupt is on its way was interrupted, whatever a library made of it."""
    try:
        code = body(args)
        sys.stdout.flush()
    except Exception:
        if interrupts.seen():
            raise KeyboardInterrupt from None
        raise
    if interrupts.seen():
        raise KeyboardInterrupt
    return EXIT_OK if code is None else code


def _os_error_line(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return f"the disk is full{where}; no file is left half-written: free some space and run again"
    return f"{error.strerror or error}{where}"

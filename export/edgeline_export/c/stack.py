"""The deepest stack of a program, by the call graph that GCC writes (-fcallgraph-info=su).

It is an upper bound where nothing calls through a pointer that is not told, and for functions of the C library, whose
frames GCC does not know here, as good as EXTERNAL_BYTES. What a board measures is less.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

FLAGS = ("-fcallgraph-info=su",)
EXTERNAL_BYTES = 128  # memset, expf and the arithmetic of a CPU without floats take less; measured on each board

_NODE = re.compile(r'^node: \{ title: "([^"]*)" label: "([^"]*)"', re.MULTILINE)
_EDGE = re.compile(r'^edge: \{ sourcename: "([^"]*)" targetname: "([^"]*)"', re.MULTILINE)
_BYTES = re.compile(r"(\d+) bytes \((static|dynamic,bounded)\)")
_INDIRECT = "__indirect_call"


def stack_bytes(graphs: Iterable[str], root: str, indirect: str) -> int | None:
    """Return the bytes of stack of `root` and all that it calls; `indirect` is what is called through pointers.

    None where the graphs do not tell: a function calls itself, or takes memory of a size that is known only later.
    """
    frames: dict[str, int | None] = {}
    calls: dict[str, set[str]] = {}
    for text in graphs:
        for title, label in _NODE.findall(text):
            found = _BYTES.search(label)
            if found:
                frames[title] = int(found[1])
            elif "bytes (" in label:
                frames[title] = None
        for caller, called in _EDGE.findall(text):
            calls.setdefault(caller, set()).add(indirect if called == _INDIRECT else called)
    return _deepest(root, frames, calls, ()) if root in frames else None


def _deepest(
    function: str, frames: Mapping[str, int | None], calls: Mapping[str, set[str]], above: tuple[str, ...]
) -> int | None:
    if function in above:
        return None
    if function not in frames:
        return EXTERNAL_BYTES
    own = frames[function]
    below = [_deepest(called, frames, calls, (*above, function)) for called in sorted(calls.get(function, ()))]
    if own is None or None in below:
        return None
    return own + max((one for one in below if one is not None), default=0)

"""Network -> Network: each pass is a function in a module of its own."""

from edgeline_export.c.ir import Network
from edgeline_export.c.passes.fuse import fuse


def prepared(network: Network) -> Network:
    """Return the network as all passes leave it, ready to be lowered."""
    return fuse(network)

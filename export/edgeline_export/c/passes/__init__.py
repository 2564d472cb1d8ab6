"""Network -> Network: each pass is a function in a module of its own."""

from edgeline_export.c.ir import Network
from edgeline_export.c.passes.affine import move_affine
from edgeline_export.c.passes.fuse import fuse
from edgeline_export.c.passes.fuse_integers import fuse_integers
from edgeline_export.c.passes.integers import integers
from edgeline_export.c.passes.lift import lift
from edgeline_export.c.passes.tidy import tidy


def prepared(network: Network) -> Network:
    """Return the network as all passes leave it, ready to be lowered."""
    for run in (lift, integers, fuse_integers, move_affine, tidy, fuse):
        network = run(network)
    return network

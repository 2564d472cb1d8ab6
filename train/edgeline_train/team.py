"""The processes that train one network together: torch.distributed, started by torchrun, or one process alone.

Data-parallel: each process holds the whole network and the whole data set, takes its share of every batch, and the
gradients are averaged (DistributedDataParallel). The lead alone prints and writes.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from edgeline.errors import EdgelineError, InputError, MissingCapabilityError, ResourceError

_T = TypeVar("_T")
_ERRORS = (InputError, MissingCapabilityError, ResourceError, EdgelineError)
# How long a process waits for the others before it takes them for lost; the lead's slowest duty between two
# exchanges is to write a checkpoint.
_TIMEOUT = datetime.timedelta(minutes=5)


@dataclass(frozen=True, slots=True)
class Team:
    """One process's place among `size`; rank 0 is the lead."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that prints and writes."""
        return self.rank == 0

    def sum_(self, tensor: Tensor) -> None:
        """Replace a tensor, in place, by the sum of all processes' own."""
        if self.size > 1:
            distributed.all_reduce(tensor)

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return the network whose gradients are the team's; all start from the lead's parameters."""
        return DistributedDataParallel(network) if self.size > 1 else network

    def from_lead(self, read: Callable[[], _T]) -> _T:
        """Return what the lead reads, to all; an error of its is raised by all."""
        if self.size == 1:
            return read()
        answer: list[Any] = [None, None]
        if self.leads:
            try:
                answer[0] = read()
            except EdgelineError as error:
                kind = next(kind for kind in _ERRORS if isinstance(error, kind))
                answer[1] = _ERRORS.index(kind), str(error)
        distributed.broadcast_object_list(answer, src=0)
        if answer[1] is not None:
            raise _ERRORS[answer[1][0]](answer[1][1])
        result: _T = answer[0]
        return result


ALONE = Team()


def team_size() -> int:
    """Return how many processes torchrun started, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def leads() -> bool:
    """Return whether this process leads; known before the team has met."""
    return os.environ.get("RANK", "0") == "0"


def restarted() -> bool:
    """Return whether torchrun has started the processes again after one was lost."""
    return int(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")) > 0


def own_device(device: str) -> str:
    """Return this process's device: of several GPUs, the one that torchrun's LOCAL_RANK counts to.

    Raises InputError for more processes than GPUs, and for mps, over which processes cannot exchange anything.
    """
    if device == "mps" and team_size() > 1:
        raise InputError("several processes cannot train together on mps: give --device cpu, or leave torchrun out")
    if device != "cuda" or team_size() == 1:
        return device
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if local >= torch.cuda.device_count():
        raise InputError(
            f"torchrun started {local + 1} or more processes here, for {torch.cuda.device_count()} GPU(s): "
            "lower --nproc-per-node"
        )
    torch.cuda.set_device(local)
    return f"cuda:{local}"


@contextlib.contextmanager
def joined_team(device: str) -> Iterator[Team]:
    """Meet the other processes that torchrun started, gloo on a CPU, nccl on GPUs; alone without torchrun.

    Raises ResourceError when another process is lost on the way.
    """
    if team_size() == 1:
        yield ALONE
        return
    try:
        # A store outlives the processes that torchrun replaces, and the addresses that they left in it: each start
        # has a corner of its own there.
        store, rank, size = next(rendezvous("env://"))
        own = PrefixStore(f"restart-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
        backend = "nccl" if device.startswith("cuda") else "gloo"
        distributed.init_process_group(backend, store=own, rank=rank, world_size=size, timeout=_TIMEOUT)
    except (distributed.DistError, RuntimeError) as error:
        raise ResourceError(
            f"the {team_size()} processes that should train together did not meet ({_first_line(error)}); "
            "look at torchrun's address and port, and that all were started"
        ) from None
    try:
        yield Team(distributed.get_rank(), distributed.get_world_size())
    except (distributed.DistError, RuntimeError) as error:
        if not _is_loss(error):
            raise
        raise ResourceError(
            f"process {os.environ.get('RANK')} lost another of the {team_size()} that train together "
            f"({_first_line(error)}); torchrun --max-restarts N goes on from the last checkpoint "
            "by itself, the same command with --resume does so by hand"
        ) from None
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:120]


def _is_loss(error: Exception) -> bool:
    """Tell a lost peer from other run-time errors: torch has a class of its own for some of them only."""
    if isinstance(error, distributed.DistError):
        return True
    words = str(error).lower()
    return any(sign in words for sign in ("connection closed", "connection reset", "broken pipe", "gloo", "nccl"))

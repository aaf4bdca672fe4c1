"""The processes that train one network together.

    torchrun --nproc-per-node 2 -m robust_perception.train --config ... --data ... --out ...

Lightning Fabric finds out who launched them (torchrun, SLURM, MPI, ...), which device each one has, and
connects them: NCCL between GPUs, gloo between processors. All of them read the same folders and write to the
same one. A process by itself needs neither.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TextIO, TypeVar

import torch
from torch import Tensor

from robust_perception.training.errors import MachineError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Value = TypeVar("Value")

DEVICES = ("auto", "cpu", "cuda")


class Ranks:
    """This process among those of the run.

    Args:
        fabric: launched; None for a process by itself on its processor.

    Attributes:
        index: of this process, from 0; 0 alone writes and speaks.
        count: of all processes.
        device: what this process computes on.
    """

    def __init__(self, fabric: Fabric | None = None) -> None:
        self._fabric = fabric
        self.index = 0 if fabric is None else fabric.global_rank
        self.count = 1 if fabric is None else fabric.world_size
        self.device = torch.device("cpu") if fabric is None else fabric.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.index == 0

    def sum_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each by its sum over the processes; all of one type, in the same order everywhere."""
        if self._fabric is None or self.count == 1 or not tensors:
            return
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).to(self.device)
        total = self._fabric.all_reduce(flat, reduce_op="sum")
        assert isinstance(total, Tensor)
        with torch.no_grad():
            for tensor, part in zip(tensors, torch.split(total, [t.numel() for t in tensors]), strict=True):
                tensor.copy_(part.view_as(tensor))

    def gather(self, value: Value) -> list[Value]:
        """What every process has, in the order of the processes."""
        if self._fabric is None or self.count == 1:
            return [value]
        found: list[Value | None] = [None] * self.count
        torch.distributed.all_gather_object(found, value)
        return found  # type: ignore[return-value]

    def from_first(self, make: Callable[[], Value]) -> Value:
        """What the first process makes of it; an exception there is raised everywhere."""
        if self._fabric is None or self.count == 1:
            return make()
        made: Value | Exception | None = None
        if self.first:
            try:
                made = make()
            except Exception as error:  # the others must not wait for a value that never comes
                made = error
        made = self._fabric.broadcast(made)
        if isinstance(made, Exception):
            raise made
        return made  # type: ignore[return-value]

    def wait(self) -> None:
        """Until every process has come here."""
        if self._fabric is not None:
            self._fabric.barrier()

    def voice(self, stream: TextIO) -> TextIO:
        """The stream for the first process, a deaf one for the others."""
        return stream if self.first else io.StringIO()


ALONE = Ranks()


def launch(device: str = "auto") -> Ranks:
    """Join the other processes of the run, if there are any, and take a device.

    Args:
        device: "cpu", "cuda", or "auto" = CUDA where there is any.

    Raises:
        MachineError: the device is not there.
    """
    wanted = "cuda" if device == "auto" and torch.cuda.is_available() else device.replace("auto", "cpu")
    if wanted == "cuda" and not torch.cuda.is_available():
        msg = "--device cuda: expected a GPU that torch can use, got none; use --device cpu"
        raise MachineError(msg)
    local, world = (int(os.environ.get(name, "1")) for name in ("LOCAL_WORLD_SIZE", "WORLD_SIZE"))
    if world == 1 and wanted == "cpu":
        return ALONE
    from lightning_fabric import Fabric  # seconds to import

    fabric = Fabric(
        accelerator=wanted,
        devices=local,
        num_nodes=max(1, world // local),
        strategy="ddp" if world > 1 else "auto",
    )
    fabric.launch()
    if wanted == "cuda":
        torch.set_float32_matmul_precision("high")
        torch.backends.cudnn.deterministic = True
    return Ranks(fabric)

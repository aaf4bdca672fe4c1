"""Tensors in a GPU's memory: how they lie in it, and latents that stay there.

The outputs of an encoder lie one after another in one block, so that all of them are moved by one copy. The
captured graph of an encoder always writes the same block; from there its latents are copied to a block of
their own, which they keep for as long as anybody holds one of them. Blocks that nobody holds any more are
used again.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from robust_perception.engine.cuda_runtime import Address, Bytes, CudaRuntime
from robust_perception.engine.errors import BackendError
from robust_perception.engine.model_files import TensorSpec
from robust_perception.vocabulary import Array

ALIGNMENT = 256
"""Bytes; what CUDA's own allocations have, and more than any kernel asks for."""


@dataclass(frozen=True)
class Layout:
    """Tensors one after another in a block of memory.

    Attributes:
        tensors: by name.
        offsets: of each, bytes, a multiple of `ALIGNMENT`.
        size: of the block, bytes; never 0.
    """

    tensors: Mapping[str, TensorSpec]
    offsets: Mapping[str, int]
    size: int

    @classmethod
    def of(cls, tensors: Iterable[TensorSpec]) -> Layout:
        """In the order they are given."""
        known = {tensor.name: tensor for tensor in tensors}
        offsets, end = {}, 0
        for name, tensor in known.items():
            offsets[name] = end
            end += -(-size_of(tensor) // ALIGNMENT) * ALIGNMENT
        return cls(known, offsets, max(end, ALIGNMENT))

    def view(self, memory: Bytes, name: str) -> Array:
        """One tensor of a block in host memory; writing to it writes to the block."""
        tensor, start = self.tensors[name], self.offsets[name]
        raw = memory[start : start + size_of(tensor)]
        return raw.view(np.dtype(tensor.dtype)).reshape(tensor.shape)


def size_of(tensor: TensorSpec) -> int:
    """Bytes of a tensor."""
    return int(np.prod(tensor.shape, dtype=np.int64)) * np.dtype(tensor.dtype).itemsize


class Lease:
    """A block that somebody holds.

    Attributes:
        pool: where it comes from.
        address: of its first byte in the device's memory.
        serial: of this lease alone; the same block leased again has another.
    """

    def __init__(self, pool: LatentPool, address: Address, serial: int) -> None:
        self.pool = pool
        self.address = address
        self.serial = serial


class LatentPool:
    """Blocks for the latents of one encoder. There are as many as were ever held at once.

    Args:
        cuda: the device.
        layout: of a block.
    """

    def __init__(self, cuda: CudaRuntime, layout: Layout) -> None:
        self.layout = layout
        self._cuda = cuda
        self._serials = itertools.count(1)
        self._blocks: list[Address] = []
        self._free: list[Address] = []
        self.closed = False

    def lease(self) -> Lease:
        """A block nobody holds; it is free again when the lease and all its latents are gone."""
        if not self._free:
            self._free.append(self._cuda.allocate(self.layout.size))
            self._blocks.append(self._free[-1])
        lease = Lease(self, self._free.pop(), next(self._serials))
        weakref.finalize(lease, self._free.append, lease.address).atexit = False
        return lease

    def read(self, lease: Lease, name: str) -> Array:
        """One tensor of a block, copied to the host.

        Raises:
            BackendError: the backend that made it is closed.
        """
        if self.closed:
            msg = f"latent {name}: expected its backend to be open, got one that is closed"
            raise BackendError(msg)
        tensor = self.layout.tensors[name]
        memory = np.empty(size_of(tensor), np.uint8)
        self._cuda.read(memory, lease.address + self.layout.offsets[name])
        return memory.view(np.dtype(tensor.dtype)).reshape(tensor.shape)

    def close(self) -> None:
        """Give all blocks back to the device, held or not."""
        self.closed = True
        while self._blocks:
            self._cuda.free(self._blocks.pop())


class DeviceLatent:
    """One output of an encoder that stayed in the device's memory.

    Stands for the array where only its shape and type matter; `numpy.asarray` copies it to the host.
    """

    def __init__(self, lease: Lease, name: str) -> None:
        self.lease = lease
        self.name = name
        tensor = lease.pool.layout.tensors[name]
        self.shape = tensor.shape
        self.dtype = np.dtype(tensor.dtype)

    def __array__(self, dtype: np.dtype[np.generic] | None = None, copy: bool | None = None) -> Array:
        """A copy on the host."""
        if copy is False:
            msg = f"latent {self.name}: expected to be copied, it is in the device's memory"
            raise ValueError(msg)
        array = self.lease.pool.read(self.lease, self.name)
        return array if dtype is None else array.astype(dtype, copy=False)

    @property
    def address(self) -> Address:
        """Of its first byte in the device's memory."""
        return self.lease.address + self.lease.pool.layout.offsets[self.name]

"""What TensorRT-RTX compiles as it loads a plan, kept beside the plan for the next load.

Its plans hold no code for the very GPU they run on: kernels are compiled at each load, which takes seconds.
The library gives what it compiled as bytes and takes them again, so they lie in a checked file of their own:

    <graph>.<sm>.kernels

They are taken with the very plan, library, GPU and driver they were made with. A file that is damaged, too
large or another user's to write is not given to the library, and what is compiled instead takes its place.
Nothing depends on it but time. TensorRT has all in the plan, and no such calls.
"""

from __future__ import annotations

import hashlib
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from robust_perception.engine import plan_store
from robust_perception.engine.plan_key import PlanKey
from robust_perception.engine.tensorrt_library import Library

LOG = logging.getLogger(__name__)

SUFFIX = ".kernels"
MAXIMUM_BYTES = 1 << 28
"""Of the kernels of one plan; a plan of this package's networks has some megabytes."""


class KernelCache:
    """Kernels of one plan.

    Args:
        plan_path: where the plan lies.
        key: as this process would have it; that of a plan for any GPU does not say which one compiled.
        driver: its version.
        plan: what is loaded.
    """

    def __init__(self, plan_path: Path, key: PlanKey, driver: str, plan: bytes) -> None:
        self.path = plan_path.with_suffix(SUFFIX)
        sha256 = hashlib.sha256(plan).hexdigest()
        self._made_with = {"key": asdict(key), "driver": driver, "plan_sha256": sha256}
        self._config: Any = None
        self._cache: Any = None
        self._taken = False

    def context(self, engine: Any, library: Library) -> Any:
        """An execution context of a loaded plan, with the kernels that are kept; None where there is none."""
        config: Any = engine.create_runtime_config() if hasattr(library.module, "IRuntimeCache") else None
        cache: Any = None if config is None else config.create_runtime_cache()
        if cache is None:
            return engine.create_execution_context()
        stored = self._stored()
        self._taken = bool(stored) and cache.deserialize(stored)
        library.said()  # why it does not take them is nobody's error
        if not config.set_runtime_cache(cache):
            return engine.create_execution_context()
        self._config, self._cache = config, cache
        return engine.create_execution_context(config)

    def keep(self) -> None:
        """Store what was compiled, once the plan ran; where that cannot be, the next load compiles again."""
        if self._cache is None or self._taken:
            return
        memory = self._cache.serialize()
        content = b"" if memory is None else bytes(memory)
        if not 0 < len(content) <= MAXIMUM_BYTES:
            return
        try:
            plan_store.write(self.path, self._made_with, content)
        except OSError as error:
            LOG.info("%s: what was compiled is not kept, the next load takes as long: %s", self.path, error)

    def release(self) -> None:
        """Give the library's objects back; after the context, before the plan."""
        self._cache = self._config = None

    def _stored(self) -> bytes:
        try:
            header, content = plan_store.read(self.path, MAXIMUM_BYTES)
        except (OSError, ValueError):
            return b""
        fits = all(header.get(name) == value for name, value in self._made_with.items())
        return content if fits else b""

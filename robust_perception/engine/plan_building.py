"""A model's graphs as stored plans: what is there already is left alone, the rest is built.

What was measured while building is kept beside the plans: it makes the next build quicker, and nothing else
depends on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from robust_perception.engine import cuda, plan_store
from robust_perception.engine.cuda_runtime import CudaRuntime
from robust_perception.engine.errors import BackendError
from robust_perception.engine.manifest import Manifest
from robust_perception.engine.model_files import GraphSpec
from robust_perception.engine.plan_key import PlanKey, Target, key_of
from robust_perception.engine.plan_store import PlanStore
from robust_perception.engine.tensorrt_builder import BuildOptions, build
from robust_perception.engine.tensorrt_library import Library, targets, unlisted_told
from robust_perception.engine.tensors import read_graph

Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What to build.

    Attributes:
        folder: of the model.
        manifest: the model's.
        precisions: of the graphs, some of the manifest's.
        options: how.
        again: build what is there already, too.
    """

    folder: Path
    manifest: Manifest
    precisions: Sequence[str]
    options: BuildOptions
    again: bool = False


def build_model(request: Request, library: Library, store: PlanStore, say: Say) -> list[Path]:
    """Build and store every graph that has no such plan yet.

    Args:
        request: what.
        library: what builds.
        store: where plans go.
        say: told what goes on.

    Returns:
        The plans' files, those that were there included.

    Raises:
        BackendError: there is no GPU and no target, its driver is too old, or a graph cannot be built; names
            graph and node.
        ModelFileError: a graph's file is missing or damaged.
        OSError: a plan cannot be stored.
    """
    manifest, options = request.manifest, request.options
    runtime = CudaRuntime.load()
    target, driver = _target(library, runtime, options)
    builder = library.builder(runtime.version())
    paths = []
    for precision in request.precisions:
        for graph, spec in manifest.graphs_of(precision).items():
            level, workspace = options.optimisation_level, options.workspace
            key = key_of(manifest, graph, precision, builder, target, level, workspace)
            path = store.path(key)
            if not request.again and store.key_at(key) == key:
                say(f"{graph} {precision}: there already, {path}")
            else:
                start = time.monotonic()
                size = _build_one(request.folder, spec, key, library, options, store, driver, say)
                say(f"{graph} {precision}: {size / 1e6:.1f} MB in {time.monotonic() - start:.1f} s, {path}")
            paths.append(path)
    return paths


def _target(library: Library, runtime: CudaRuntime, options: BuildOptions) -> tuple[Target, str]:
    """What is built for, and the version of the driver that is here."""
    if options.target_sm is not None:
        known = targets(library)
        if options.target_sm not in known:
            offered = ", ".join(map(str, known)) or "none: it builds for the GPU that is here"
            msg = f"{library.title}: expected --target-sm out of {offered}, got {options.target_sm}"
            raise BackendError(msg)
        return Target.any_of(options.target_sm), ""
    where = cuda.device()
    runtime.require_served_by(where)
    return Target.of(where), where.driver


def _build_one(
    folder: Path,
    spec: GraphSpec,
    key: PlanKey,
    library: Library,
    options: BuildOptions,
    store: PlanStore,
    driver: str,
    say: Say,
) -> int:
    timings = store.folder / "timing" / f"{key.backend}-{key.version}.{key.compute_capability}.cache"
    content = read_graph(folder, spec)
    with unlisted_told(library, key.compute_capability):
        built = build(library, content, f"{folder / spec.file}", options, _timing(timings), say)
    store.save(key, built.plan, driver)
    if built.timing:
        plan_store.write(timings, {}, built.timing)
    return len(built.plan)


def _timing(path: Path) -> bytes:
    """What an earlier build measured; nothing where there is none or it is damaged: it only saves time."""
    try:
        return plan_store.read(path)[1]
    except (OSError, ValueError):
        return b""

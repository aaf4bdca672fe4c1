"""`robust-perception build-engine`: a model's graphs as TensorRT plans, where the node will look for them.

    robust-perception build-engine --model default --backend tensorrt_rtx --precision fp16 --check

A node loads plans and never builds one, because it takes seconds to minutes. A plan is for one graph, one
version of TensorRT and one kind of GPU; a graph whose plan is there already is left alone. TensorRT-RTX
builds for a named compute capability on a machine without its GPU (`--target-sm 89`).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from robust_perception import arguments
from robust_perception.engine import cuda, tensorrt_library
from robust_perception.engine.choice import ON_TENSORRT
from robust_perception.engine.engine import Engine
from robust_perception.engine.errors import BackendError, EngineError, SelfCheckError
from robust_perception.engine.manifest import Manifest
from robust_perception.engine.models import find_model
from robust_perception.engine.plan_building import Request, build_model
from robust_perception.engine.plan_store import PlanStore
from robust_perception.engine.selfcheck import NO_REFERENCES, require
from robust_perception.engine.tensorrt import mend_told
from robust_perception.engine.tensorrt_builder import BuildOptions
from robust_perception.engine.tensorrt_library import FAMILIES
from robust_perception.progress import Steps

MOST_WORKSPACE = (1 << 63) - 1 >> 20
"""MiB whose bytes TensorRT's own numbers still hold."""

Say = Callable[[str], None]


def check_model(folder: Path, backend: str, names: Iterable[str], cache: Path | None, say: Say) -> None:
    """Load the plans as a node does and compare every pattern with the stored references.

    Raises:
        EngineError: a plan does not load, a pattern is further off than its precision may be, or there is
            nothing to compare with.
    """
    for precision in names:
        engine = Engine.load(folder, backend, precision=precision, cache=cache)
        results = engine.check()
        if not results:
            raise SelfCheckError(f"model {engine.manifest.name}: {NO_REFERENCES}")
        for result in results:
            say(f"{precision}, {result}")
        with mend_told(backend, folder, engine.info.precision, cache):
            require(results, engine.manifest.name)
        say(f"{precision} on {engine.info.device}: {len(results)} patterns give their references")


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog="robust-perception build-engine", description="Build a model's TensorRT plans."
    )
    parser.add_argument("--model", default="default", help="model folder or name (default: %(default)s)")
    parser.add_argument("--backend", required=True, choices=FAMILIES, help="what builds and will run them")
    parser.add_argument(
        "--precision",
        action="append",
        choices=ON_TENSORRT,
        help="several times for several (default: every one the model has graphs for)",
    )
    parser.add_argument(
        "--check", action="store_true", help="then load them and compare every pattern with its reference"
    )
    arguments.add_cache_option(parser)
    parser.add_argument(
        "--workspace",
        type=arguments.count,
        default=0,
        help="most scratch memory, MiB (default: all there is)",
    )
    parser.add_argument(
        "--optimization-level",
        type=int,
        choices=range(6),
        default=3,
        help="0 builds quickest, 5 gives the quickest plan (default: %(default)s)",
    )
    parser.add_argument(
        "--target-sm",
        type=arguments.positive,
        help="compute capability to build for without its GPU, e.g. 89; tensorrt_rtx alone",
    )
    parser.add_argument("--rebuild", action="store_true", help="build what is there already, too")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command: 0 when every plan is there (and checks), 1 when not, 2 on wrong usage."""
    parser = build_parser()
    given = parser.parse_args(argv)
    if given.check and given.target_sm is not None:
        parser.error("--check runs plans on the GPU that is here; those of --target-sm are for another")
    if given.target_sm is not None and not FAMILIES[given.backend].ahead_of_time:
        parser.error(f"--target-sm: {given.backend} builds for the GPU that is here alone")
    if given.workspace > MOST_WORKSPACE:
        parser.error(f"--workspace: expected at most {MOST_WORKSPACE} MiB, got {given.workspace}")
    say = Steps("build-engine", sys.stderr)
    try:
        folder = find_model(given.model)
        manifest = Manifest.load(folder, check_files=False)  # each file is checked as it is read
        claimed = [name for name, p in ON_TENSORRT.items() if p in manifest.precisions]
        wanted = list(dict.fromkeys(given.precision or claimed))
        graphs = [ON_TENSORRT[name] for name in wanted]
        options = BuildOptions(given.optimization_level, given.workspace << 20, given.target_sm)
        request = Request(folder, manifest, graphs, options, given.rebuild)
        for precision in graphs:
            manifest.graphs_of(precision)  # before minutes are spent on another one
        if given.target_sm is None:
            # Asked first: without a driver some of TensorRT's libraries end the process as they load.
            _require_gpu(given.backend)
        library = tensorrt_library.load(given.backend)
        store = PlanStore(given.cache)
        paths = build_model(request, library, store, say)
        if given.check:
            check_model(folder, given.backend, wanted, given.cache, say)
    except (EngineError, OSError) as error:
        print(f"build-engine: {error}", file=sys.stderr)
        return 1
    what = ", ".join(wanted)
    print(f"{len(paths)} plans of {manifest.name} ({what}) for {given.backend} in {store.folder}")
    return 0


def _require_gpu(backend: str) -> None:
    reason = tensorrt_library.probe(backend)
    if reason is None:
        return
    ahead = FAMILIES[backend].ahead_of_time
    hint = "; or name the GPU it is for: --target-sm 89" if ahead and cuda.probe() is not None else ""
    raise BackendError(f"{backend}: {reason}{hint}")


if __name__ == "__main__":
    sys.exit(main())

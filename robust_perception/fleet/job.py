"""What is done with every bag, and the key under which its result is kept.

    key = SHA-256 of (layout of results, model, bag, faults and their seed, how it is read, versions)

A result is taken from an earlier run only under the same key: whatever could change a number changes it. The
number of workers and of threads is not in it.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robust_perception.engine.engine import Engine
from robust_perception.evaluation.bag_source import BagConfig, BagSource
from robust_perception.evaluation.recipe import versions
from robust_perception.faults.script import FaultScript
from robust_perception.runtime.pacing import RATE_HZ
from robust_perception.vocabulary import Pattern

LAYOUT = 4
"""Of what is stored of a bag."""


@dataclass(frozen=True)
class Job:
    """What is measured on every bag.

    Attributes:
        model: folder or name.
        backend: as for `Engine.load`.
        precision: as for `Engine.load`.
        cache: as for `Engine.load`.
        threads: of a worker, each with an inference of its own where the backend can; None = all its cores.
        patterns: one pass each; empty = one with all sensors.
        script: faults on the way.
        rate_hz: most outputs a second.
        config: how a bag is read.
    """

    model: str
    backend: str = "auto"
    precision: str = "auto"
    cache: Path | None = None
    threads: int | None = None
    patterns: tuple[Pattern, ...] = ()
    script: FaultScript = field(default_factory=FaultScript)
    rate_hz: float = RATE_HZ
    config: BagConfig = field(default_factory=BagConfig)

    def load(self) -> Engine:
        """The engine; EngineError when it cannot be."""
        return Engine.load(self.model, self.backend, self.threads, self.precision, self.cache, abreast=True)

    def open(self, path: Path, engine: Engine) -> BagSource:
        """A bag for the sensors and classes of the model; BagError when it is none."""
        manifest = engine.manifest
        return BagSource(path, manifest.modalities, manifest.class_names, manifest.scene_names, self.config)

    def recipe(self, engine: Engine) -> dict[str, Any]:
        """All that a result depends on but the bag."""
        units = self.config.units
        return {
            "layout": LAYOUT,
            "model_sha256": engine.info.sha,
            "backend": engine.info.backend,
            "precision": engine.info.precision,
            "faults": faults_of(self.script),
            "seed": self.script.seed,
            "patterns": [str(pattern) for pattern in self.patterns],
            "rate_hz": self.rate_hz,
            "topics": {str(m): topic for m, topic in sorted(self.config.topics.items())},
            "units": [units.depth_scale, units.thermal_scale, units.thermal_offset],
            "audio": None if self.config.audio is None else str(self.config.audio),
            "seconds": self.config.seconds,
            "check_header_age": self.config.check_header_age,
            "versions": versions(),
        }


def faults_of(script: FaultScript) -> list[dict[str, Any]]:
    """The windows of a script as plain values; `until` is null where nothing ends one."""
    return [
        {
            "sensor": str(fault.sensor),
            "fault": fault.kind,
            "at": fault.at,
            "until": None if fault.until == math.inf else fault.until,
            **fault.values,
        }
        for fault in script.faults
    ]


def key_of(recipe: Mapping[str, Any], bag_sha256: str) -> str:
    """The key of a bag's result, 64 hexadecimal digits."""
    text = json.dumps({**recipe, "bag_sha256": bag_sha256}, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()

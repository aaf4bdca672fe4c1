"""What `evaluate --bag` says of a bag is what the live graph says while the bag is played, pixel by pixel."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import small_folder

from robust_perception.bags.dataset import write_dataset
from robust_perception.datasets import FIRST_STAMP_NS, FolderDataset
from robust_perception.evaluate import main
from robust_perception.ros.replay_check import LiveGraph
from robust_perception.vocabulary import Pattern

pytestmark = pytest.mark.ros

FRAMES, RATE = 6, 5.0
PATTERNS = [Pattern.parse(words) for words in ("rgb+depth+thermal+audio", "depth+audio", "rgb", "thermal")]


def test_label_maps_of_the_same_stamps_are_the_same(tiny: Path, tmp_path: Path, domain: int) -> None:
    dataset = FolderDataset(small_folder.write(tmp_path / "data", FRAMES), "test")
    bag, maps = tmp_path / "bag", tmp_path / "maps"
    write_dataset(dataset, bag, rate=RATE)
    stamps = [FIRST_STAMP_NS + round(i * 1e9 / RATE) for i in range(FRAMES)]
    words = ["--model", str(tiny), "--bag", str(bag), "--label-maps", str(maps)]
    assert main([*words, "--patterns", ",".join(map(str, PATTERNS))]) == 0
    with LiveGraph(str(tiny), dataset.modalities, domain, tmp_path) as graph:
        for pattern in PATTERNS:
            live = graph.replay(bag, pattern, stamps).label_maps
            assert sorted(live) == stamps, pattern
            files = [maps / str(pattern) / f"{stamp}.png" for stamp in stamps]
            offline = [cv2.imread(str(file), cv2.IMREAD_UNCHANGED) for file in files]
            for stamp, label_map in zip(stamps, offline, strict=True):
                np.testing.assert_array_equal(live[stamp], label_map, err_msg=f"{pattern} at {stamp}")
            assert not any(np.array_equal(a, b) for a, b in pairwise(offline)), "each shows another scene"

"""Checkpoints of another kind are refused by name."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from robust_perception.model.network import Network
from robust_perception.model.network_config import NetworkConfig
from robust_perception.training.checkpoint import CheckpointError, load_weights, save_weights
from robust_perception.vocabulary import MODALITIES


@pytest.fixture
def file(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    network = Network(NetworkConfig(MODALITIES[:1], ("background", "cup"), (), 8))
    save_weights(tmp_path / "best.safetensors", network, {"seed": 1})
    return tmp_path / "best.safetensors"


def rewrite(path: Path, change: dict[str, Any]) -> None:
    """Change values of the network's section in a checkpoint's header; None takes a key away."""
    with safe_open(path, framework="pt") as opened:
        header = opened.metadata()
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    content = json.loads(header["content"])
    for key, value in change.items():
        if value is None:
            del content["network"][key]
        else:
            content["network"][key] = value
    save_file(tensors, path, metadata={**header, "content": json.dumps(content)})


def test_what_was_written_is_read(file: Path) -> None:
    network, training = load_weights(file)
    assert training == {"seed": 1} and network.config.width == 8 and not network.training


def test_keys_that_this_version_does_not_know_are_named(file: Path) -> None:
    rewrite(file, {"depth_of_thought": 3})
    with pytest.raises(CheckpointError, match=r"best\.safetensors: .*unknown keys \['depth_of_thought'\]"):
        load_weights(file)


def test_keys_that_this_version_needs_are_named(file: Path) -> None:
    rewrite(file, {"class_names": None})
    with pytest.raises(CheckpointError, match=r"best\.safetensors: .*no \['class_names'\]"):
        load_weights(file)


def test_a_checkpoint_older_than_an_option_has_its_default(file: Path) -> None:
    rewrite(file, {"bottleneck": None, "translation": None, "fusion": None})
    assert load_weights(file)[0].config.fusion == "gated"


def test_weights_of_another_width_are_refused(file: Path) -> None:
    rewrite(file, {"width": 16})
    with pytest.raises(CheckpointError, match="expected the weights of this network"):
        load_weights(file)


def test_a_full_disk_is_told_and_the_last_checkpoint_stays(file: Path) -> None:
    """The system refuses files of more than some bytes to a child of this process, as a full disk would."""
    before = file.read_bytes()
    code = f"""
import resource, signal, torch
from pathlib import Path
from robust_perception.training.checkpoint import CheckpointError, save
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    save(Path({str(file)!r}), {{"a": torch.zeros(10_000)}}, {{}})
except CheckpointError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout.startswith(f"{file}: expected to write a checkpoint, could not: ")
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file], "nothing half written is left"

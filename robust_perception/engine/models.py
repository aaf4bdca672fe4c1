"""Where a model is: a folder by path, or one of the installed models by name."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from robust_perception.engine.errors import ModelNotFoundError
from robust_perception.engine.manifest import FILE_NAME

_SHARE = Path("share") / "robust_perception" / "models"


def model_folders() -> tuple[Path, ...]:
    """Folders that are searched for a model's name, in this order, whether they exist or not.

    The ament prefixes of this shell, the Python prefix, the source tree.
    """
    prefixes = [Path(p) for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    # A robot's workspace overlays what is installed below it, so the shell's prefixes come first.
    folders = [prefix / _SHARE for prefix in (*prefixes, Path(sys.prefix))]
    folders.append(Path(__file__).resolve().parents[2] / "models")
    return tuple(dict.fromkeys(folders))


def find_model(name_or_path: str | Path) -> Path:
    """The folder of a model.

    Args:
        name_or_path: a folder (or its `manifest.json`), or the name of an installed model such as `default`.

    Raises:
        ModelNotFoundError: neither; the message lists where was looked and what is there.
    """
    text = str(name_or_path)
    try:
        path = Path(name_or_path).expanduser()
        if path.name == FILE_NAME:
            path = path.parent
        if text and (path / FILE_NAME).is_file():
            return path
    except (OSError, RuntimeError) as error:  # too long, not to be entered, or the home of nobody
        msg = f"model: expected a folder or the name of an installed model, got {text!r}: {error}"
        raise ModelNotFoundError(msg) from None
    folders = model_folders()
    # A folder of that name that is no model, like /etc/default, does not hide an installed one.
    if text and Path(text).name == text:
        for folder in folders:
            if (folder / text / FILE_NAME).is_file():
                return folder / text
    if text and path.is_dir():  # without a name it is the folder one happens to be in
        msg = f"{path}: expected a model folder with {FILE_NAME}, got a folder without one"
        raise ModelNotFoundError(msg)
    found = sorted({p.parent.name for folder in folders for p in folder.glob(f"*/{FILE_NAME}")})
    looked = ", ".join(str(folder) for folder in folders)
    msg = f"model: expected a folder or one of {found}, got {text!r}; looked in {looked}"
    raise ModelNotFoundError(msg)

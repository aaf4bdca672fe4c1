"""The arrays of a references file, none of which may claim more room than it brings.

An npz archive is a zip of npy files. numpy reserves what an npy's head claims before it reads the rest, and a
zip's reader unpacks what comes: a file of some kilobytes could ask for all memory.
"""

from __future__ import annotations

import io
import math
import zipfile

import numpy as np

from robust_perception.vocabulary import Array

MAXIMUM_BYTES = 1 << 30
"""Of all arrays, unpacked: some three hundred times what the shipped model's take."""

_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What numpy writes; the others' readers know no bound."""

_HEADS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def unpack(content: bytes) -> dict[str, Array]:
    """The arrays of an npz archive by name.

    Raises:
        ValueError: no archive, a member of it is damaged or no array of numbers, or all are too large.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > MAXIMUM_BYTES:
                msg = f"arrays of {total} bytes, above {MAXIMUM_BYTES}"
                raise ValueError(msg)
            return {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}
    except Exception as error:  # what the parsers of zip, deflate and npy raise has no base class in common
        raise ValueError(str(error)) from None


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> Array:
    if member.compress_type not in _METHODS:
        msg = f"{member.filename} packed by method {member.compress_type}"
        raise ValueError(msg)
    with archive.open(member) as file:
        stream = io.BytesIO(file.read(member.file_size))
    version = np.lib.format.read_magic(stream)
    if version not in _HEADS:
        msg = f"{member.filename} of npy version {version}"
        raise ValueError(msg)
    shape, _, kind = _HEADS[version](stream)
    claimed = math.prod(shape) * kind.itemsize
    there = member.file_size - stream.tell()
    if kind.kind not in "biuf" or claimed != there:
        msg = f"{member.filename} with {there} bytes for an array {list(shape)} of {kind}"
        raise ValueError(msg)
    stream.seek(0)
    array: Array = np.lib.format.read_array(stream, allow_pickle=False)
    return array

"""Archives of arrays: what is unpacked, and what is refused before it takes memory."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from robust_perception.engine import reference_file


def npy(shape: tuple[int, ...], content: bytes = b"") -> bytes:
    """An array's head with whatever else behind it."""
    stream = io.BytesIO()
    head = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, head)
    return stream.getvalue() + content


def archive(*members: tuple[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as opened:
        for name, content in members:
            opened.writestr(name, content)
    return stream.getvalue()


GOOD = ("a.npy", npy((3,), b"abc"))


def patched(offset: int, value: int) -> bytes:
    """An archive of one member with a byte changed in both its heads; the second has it two bytes further."""
    content = bytearray(archive(("a.npy", b"\xff" * 9)))
    content[offset] = content[content.index(b"PK\1\2") + offset + 2] = value
    return bytes(content)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes_is_unpacked(save: object) -> None:
    arrays = {"input/rgb": np.arange(6, dtype=np.uint8).reshape(2, 3), "turned": np.eye(3, 4, 1).T}
    stream = io.BytesIO()
    save(stream, **arrays)  # type: ignore[operator]
    got = reference_file.unpack(stream.getvalue())
    assert list(got) == list(arrays)
    for name, array in arrays.items():
        assert got[name].dtype == array.dtype
        np.testing.assert_array_equal(got[name], array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (archive(("a.npy", npy((1 << 40,)))), r"a\.npy with 0 bytes for an array \[1099511627776\] of uint8"),
        (archive(("a.npy", npy((3 << 30,), b"abc"))), r"a\.npy with 3 bytes for an array \[3221225472\]"),
        (archive(("a.npy", npy((3,), b"abcd"))), r"a\.npy with 4 bytes for an array \[3\]"),
        (archive(GOOD, method=zipfile.ZIP_LZMA), r"a\.npy packed by method 14"),
        (archive(("a.txt", b"abc")), "reading magic string"),
        (patched(8, 97), r"a\.npy packed by method 97"),
        (patched(8, zipfile.ZIP_DEFLATED), "Error -3 while decompressing"),
        (patched(6, 1), "is encrypted"),
        (npy((3,), b"abc"), "not a zip file"),
    ],
)
def test_what_is_no_archive_of_arrays_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reference_file.unpack(content)


def test_what_would_take_too_much_memory_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    content = archive(GOOD, ("b.npy", npy((3,), b"abc")))
    assert set(reference_file.unpack(content)) == {"a", "b"}
    monkeypatch.setattr(reference_file, "MAXIMUM_BYTES", 200)
    monkeypatch.setattr(reference_file, "_array", None)
    with pytest.raises(ValueError, match="arrays of 262 bytes, above 200"):
        reference_file.unpack(content)

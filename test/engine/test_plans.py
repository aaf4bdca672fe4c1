"""Plans on disk: every field of the key counts, nothing damaged or foreign is taken, writes are whole."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from fake_cuda import DEVICE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_model import make_model

from robust_perception.engine import plan_store
from robust_perception.engine.errors import BackendError
from robust_perception.engine.manifest import Manifest
from robust_perception.engine.plan_key import CHOSEN, OF_ONE_GPU, Builder, PlanKey, Target, key_of
from robust_perception.engine.plan_store import MARK, PlanError, PlanStore, default_folder
from robust_perception.engine.precision import FP32

KEY = PlanKey(
    model="tiny",
    graph="fusion",
    precision="fp16",
    onnx_sha256="ab" * 32,
    tensors="pattern int64[1] -> boxes float32[1, 6, 4]",
    exporter='{"opset": 18, "schema": 1}',
    typing="strong",
    flags="-TF32",
    optimisation_level=3,
    workspace=0,
    backend="tensorrt",
    version="10.3.0",
    cuda="12.6",
    gpu="Orin",
    compute_capability="sm_87",
    multiprocessors=8,
    memory=16 << 30,
    system="Linux aarch64",
    l4t="R36.4.3",
)
NAMES = [field.name for field in fields(PlanKey)]
PLAN = bytes(range(256)) * 40
MEND = "Rebuild with `robust-perception build-engine --model m`. Not rebuilding inside the node."


def changed(key: PlanKey, name: str) -> PlanKey:
    value = getattr(key, name)
    return replace(key, **{name: value + 1 if isinstance(value, int) else f"{value}x"})


@pytest.mark.parametrize("name", NAMES)
def test_every_field_that_counts_makes_a_difference(name: str) -> None:
    other = changed(KEY, name)
    assert other != KEY  # what build-engine asks: is this very plan there?
    assert bool(KEY.differences(other)) is (name not in CHOSEN)  # what is chosen is taken as it is


@pytest.mark.parametrize("name", [name for name in NAMES if name not in CHOSEN])
def test_a_field_that_differs_is_named_with_both_sides(name: str) -> None:
    other = changed(KEY, name)
    (words,) = KEY.differences(other)
    assert words == (
        f"{name.replace('_', ' ')}: built for {getattr(KEY, name)!r}, here {getattr(other, name)!r}"
    )


@pytest.mark.parametrize("name", [name for name in NAMES if name not in CHOSEN])
def test_ahead_of_time_leaves_open_only_which_gpu_of_its_kind(name: str) -> None:
    built = replace(KEY, gpu="any", multiprocessors=0, memory=0)
    assert (built.differences(changed(KEY, name)) == ()) is (name in OF_ONE_GPU)


def test_cards_of_one_kind_that_differ_by_some_mebibytes_share_plans() -> None:
    def built_on(memory: int) -> int:
        return Target.of(replace(DEVICE, memory=memory)).memory

    assert built_on((8 << 30) - (3 << 20)) == built_on(8 << 30) == 8 << 30
    assert built_on((16 << 30) - (400 << 20)) != built_on(8 << 30)


def test_a_models_key_has_what_the_manifest_says(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "tiny")
    manifest = Manifest.load(folder)
    builder = Builder("tensorrt_rtx", "1.7", "13.0", "strong", "-TF32")
    key = key_of(manifest, "encoder_audio", FP32, builder, Target.of(DEVICE), 5, 7)
    assert key.onnx_sha256 == manifest.graphs["encoder_audio"].sha256
    assert key.tensors == "audio float32[1, 16000] -> audio_vector float32[1, 8]"
    assert (key.gpu, key.compute_capability, key.memory) == ("Test GPU", "sm_89", 8 << 30)
    assert (key.optimisation_level, key.workspace) == (5, 7)
    exported_otherwise = replace(manifest, exporter={"opset": 99})
    assert key_of(exported_otherwise, "encoder_audio", FP32, builder, Target.of(DEVICE), 5, 7) != key


@given(st.dictionaries(st.sampled_from([*NAMES, "more"]), st.sampled_from(("", "x", 7, None, True, 1.5, []))))
def test_a_key_is_read_with_its_types_or_not_at_all(content: dict[str, object]) -> None:
    merged = {**asdict(KEY), **content}
    good = "more" not in content and all(type(v) is type(getattr(KEY, k)) for k, v in content.items())
    if good:
        assert asdict(PlanKey.from_json(merged)) == merged
    else:
        with pytest.raises(ValueError, match="expected"):
            PlanKey.from_json(merged)


def test_what_is_stored_is_found(tmp_path: Path) -> None:
    store = PlanStore(tmp_path)
    path = store.save(KEY, PLAN, "540.4")
    assert path == tmp_path / "tiny" / "tensorrt" / "fp16" / "fusion.sm_87.plan"
    found = store.find(replace(KEY, optimisation_level=0), MEND)
    assert (found.content, found.key, found.driver, found.path) == (PLAN, KEY, "540.4", path)
    assert store.key_at(KEY) == KEY
    store.save(changed(KEY, "version"), b"newer", "541")  # takes its place
    assert store.find(changed(KEY, "version"), MEND).content == b"newer"


def test_none_says_where_it_was_looked_for_and_what_there_is(tmp_path: Path) -> None:
    store = PlanStore(tmp_path)
    with pytest.raises(PlanError) as caught:
        store.find(KEY, MEND)
    expected = tmp_path / "tiny" / "tensorrt" / "fp16" / "fusion.sm_87.plan"
    assert str(caught.value) == f"no plan of fusion at {expected}. {MEND}"
    store.save(replace(KEY, compute_capability="sm_89"), PLAN, "")
    with pytest.raises(PlanError, match=r"\(only for sm_89; this is sm_87\)"):
        store.find(KEY, MEND)
    expected.mkdir()  # no plan, whatever its name says
    with pytest.raises(PlanError, match=r"\(only for sm_89; this is sm_87\)"):
        store.find(KEY, MEND)


def test_a_place_that_cannot_be_looked_at_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    with pytest.raises(PlanError, match=f"{MEND}$"):
        PlanStore(tmp_path).find(replace(KEY, model="a" * 300), MEND)
    monkeypatch.setattr(Path, "is_file", denied)
    with pytest.raises(PlanError, match=f"expected a whole plan, got .*Permission denied.*{MEND}$"):
        PlanStore(tmp_path).find(KEY, MEND)


def test_a_mismatch_names_every_difference_and_the_command(tmp_path: Path) -> None:
    store = PlanStore(tmp_path)
    store.save(KEY, PLAN, "")
    with pytest.raises(PlanError) as caught:
        store.find(replace(KEY, version="11.4.1", l4t="R38"), MEND)
    message = str(caught.value)
    assert "version: built for '10.3.0', here '11.4.1'; l4t: built for 'R36.4.3', here 'R38'" in message
    assert message.endswith(MEND)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_plan_cut_short_grown_or_changed_anywhere_is_refused(tmp_path: Path, data: st.DataObject) -> None:
    store = PlanStore(tmp_path)
    path = store.save(KEY, PLAN, "540.4")
    content = bytearray(path.read_bytes())
    position = data.draw(st.integers(0, len(content) - 1))
    match data.draw(st.sampled_from(("cut", "grown", "changed"))):
        case "cut":
            del content[position:]
        case "grown":
            content.insert(position, data.draw(st.integers(0, 255)))
        case "changed":
            content[position] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        found = store.find(KEY, MEND)
    except PlanError as error:
        assert MEND in str(error)
    else:
        # A change in the header alone may still be a header: then it is one of what is only told.
        assert found.content == PLAN
        assert found.key.differences(KEY) == ()


def forge(path: Path, **changes: object) -> None:
    mark, header, plan = path.read_bytes().split(b"\n", 2)
    content = {**json.loads(header), **changes}
    path.write_bytes(mark + b"\n" + json.dumps(content).encode() + b"\n" + plan)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"key": asdict(replace(KEY, gpu="Thor"))}, "gpu: built for 'Thor', here 'Orin'"),
        ({"key": {}}, "expected the fields"),
        ({"key": [1]}, "a header whose 'key' is no dict"),
        ({"bytes": len(PLAN) - 1}, "bytes where the header says"),
        ({"bytes": -1}, "bytes where the header says -1"),
        ({"bytes": True}, "a header whose 'bytes' is no int"),
        ({"sha256": "0" * 64}, "content of another SHA-256"),
        ({"driver": None}, "a header whose 'driver' is no str"),
    ],
)
def test_a_forged_header_is_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    store = PlanStore(tmp_path)
    forge(store.save(KEY, PLAN, ""), **changes)
    with pytest.raises(PlanError, match=words):
        store.find(KEY, MEND)
    assert store.key_at(KEY) != KEY  # or build-engine would leave it there


@pytest.mark.parametrize("content", [b"", b"ftrt" * 100, MARK, MARK + b"[1]\n", MARK + b"{" * 100000 + b"\n"])
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    store = PlanStore(tmp_path)
    path = store.path(KEY)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    with pytest.raises(PlanError, match="expected a whole plan, got "):
        store.find(KEY, MEND)
    assert store.key_at(KEY) is None


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    store = PlanStore(tmp_path)
    path = store.path(KEY)
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    assert store.key_at(KEY) is None
    with pytest.raises(ValueError, match="no regular file"):
        plan_store.read(path)


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    store = PlanStore(tmp_path)
    path = store.save(KEY, PLAN, "")
    path.chmod(mode)
    with pytest.raises(PlanError, match=rf"a file that others may write \(mode {mode:o}\)"):
        store.find(KEY, MEND)


def test_another_users_file_is_refused_and_roots_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PlanStore(tmp_path)
    path = store.save(KEY, PLAN, "")
    if os.geteuid() == 0:
        monkeypatch.setattr(plan_store.os, "geteuid", lambda: 1000)
        assert store.find(KEY, MEND).content == PLAN
        os.chown(path, 1001, -1)
    else:
        monkeypatch.setattr(plan_store.os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(PlanError, match=r"a file of another user \(uid \d+\)"):
        store.find(KEY, MEND)


@given(name=st.text(alphabet="a./\\\0ü~ ", min_size=1, max_size=8))
def test_no_name_leads_out_of_the_folder(name: str) -> None:
    root = Path("/cache")
    path = PlanStore(root).path(replace(KEY, model=name, graph=name))
    assert path.parents[3] == root
    assert ".." not in path.parts


WRITER = """
import json, sys
from pathlib import Path
from robust_perception.engine.plan_key import PlanKey
from robust_perception.engine.plan_store import PlanStore
key = PlanKey.from_json(json.loads(sys.argv[2]))
for _ in range(8):
    PlanStore(Path(sys.argv[1])).save(key, bytes([key.workspace]) * 200_000, str(key.workspace))
"""


def test_two_that_store_at_once_leave_one_whole_file(tmp_path: Path, repository: Path) -> None:
    keys = [json.dumps(asdict(replace(KEY, workspace=filling))) for filling in (1, 2)]
    commands = [[sys.executable, "-c", WRITER, str(tmp_path), key] for key in keys]
    writers = [subprocess.Popen(command, cwd=repository) for command in commands]
    store, seen = PlanStore(tmp_path), set()
    while any(writer.poll() is None for writer in writers):
        if store.path(KEY).exists():
            seen.add(store.find(KEY, MEND).driver)  # whole at any time
    assert [writer.wait() for writer in writers] == [0, 0]
    found = store.find(KEY, MEND)
    assert found.content == bytes([found.key.workspace]) * 200_000
    assert seen <= {"1", "2"}
    assert sorted(p.name for p in store.path(KEY).parent.iterdir()) == [".lock", "fusion.sm_87.plan"]


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = PlanStore(tmp_path)
    path = store.save(KEY, PLAN, "")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plan_store.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        store.save(KEY, b"newer", "")
    assert sorted(p.name for p in path.parent.iterdir()) == [".lock", "fusion.sm_87.plan"]
    assert store.find(KEY, MEND).content == PLAN


def test_what_a_killed_writer_left_goes_with_the_next_write(tmp_path: Path) -> None:
    store = PlanStore(tmp_path)
    folder = store.save(KEY, PLAN, "").parent
    (folder / ".fusion.sm_87.plan.k1ll3d").write_bytes(b"half")
    (folder / ".fusion.sm_89.plan.other").write_bytes(b"half")
    store.save(KEY, PLAN, "")
    kept = [".fusion.sm_89.plan.other", ".lock", "fusion.sm_87.plan"]
    assert sorted(p.name for p in folder.iterdir()) == kept


def test_the_default_folder_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_folder({"XDG_CACHE_HOME": "/c"}) == Path("/c/robust_perception/plans")
    monkeypatch.setenv("HOME", "/home/robot")
    assert default_folder({}) == Path("/home/robot/.cache/robust_perception/plans")
    assert default_folder({"XDG_CACHE_HOME": "relative"}) == default_folder({})

    def homeless() -> Path:
        raise RuntimeError

    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(BackendError, match="expected HOME or XDG_CACHE_HOME to be set"):
        default_folder({})


def test_what_is_made_is_readable_by_others_and_writable_by_its_owner_alone(tmp_path: Path) -> None:
    root = tmp_path / "cache" / "plans"
    before = os.umask(0)
    try:
        path = PlanStore(root).save(KEY, PLAN, "")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o644
    assert (path.parent / ".lock").stat().st_mode & 0o777 == 0o600
    made = [folder for folder in path.parents if folder.is_relative_to(root.parent)]
    assert {folder.stat().st_mode & 0o777 for folder in made} == {0o755}
    assert len(made) == 5

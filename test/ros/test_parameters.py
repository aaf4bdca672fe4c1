"""The tables, the shipped file, the page, and how a node takes values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rclpy
import yaml
from rclpy.parameter import Parameter as RosParameter

from robust_perception.presence import SynchronizerConfig
from robust_perception.ros import parameter_docs
from robust_perception.ros.errors import ParameterError
from robust_perception.ros.fusion_parameters import FUSION, audio_format, synchronizer_config
from robust_perception.ros.parameters import Parameter, ParameterTable, path_of
from robust_perception.ros.recorder_node import RECORDER
from robust_perception.ros.replay_parameters import REPLAY
from robust_perception.ros.simulation_node import SIMULATION
from robust_perception.ros.unit_parameters import image_units, within_reach
from robust_perception.runtime.audio import AudioFormat
from robust_perception.vocabulary import MODALITIES, Modality

ROWS = (
    Parameter("speed", 1.5, "Metres a second.", "live", 0.0, 3.0),
    Parameter("count", 2, "How many.", "configured", 1, 5),
    Parameter("name", "a", "Which.", "start", choices=("a", "b")),
    Parameter("names", [""], "Which ones.", choices=("a", "b")),
    Parameter("on", True, "Whether."),
)


@pytest.fixture
def context(domain: int) -> Iterator[rclpy.Context]:
    made = rclpy.Context()
    rclpy.init(context=made, domain_id=domain)
    yield made
    rclpy.try_shutdown(context=made)


def table(
    context: rclpy.Context, given: dict[str, Any], rows: tuple[Parameter, ...] = ROWS, **more: Any
) -> tuple[Any, ParameterTable]:
    overrides = [RosParameter(name, value=value) for name, value in given.items()]
    node = rclpy.create_node(
        "table", context=context, parameter_overrides=overrides, start_parameter_services=False
    )
    try:
        return node, ParameterTable(node, rows, **more)
    except BaseException:
        node.destroy_node()
        raise


def test_defaults_and_given_values(context: rclpy.Context) -> None:
    _, made = table(context, {"speed": 2.0, "names": ["a", "b"]})
    assert [made[row.name] for row in ROWS] == [2.0, 2, "a", ["a", "b"], True]


def test_what_is_locked_may_be_set_to_what_it_is(context: rclpy.Context) -> None:
    """As `ros2 param load` does, which sets everything that a file says."""
    rows = (*ROWS, Parameter("fixed", ["a"], "Which ones.", "configured", choices=("a", "b")))
    node, made = table(context, {"count": 3}, rows, locked=lambda: True)
    same = [
        RosParameter("count", value=3),
        RosParameter("fixed", value=["a"]),
        RosParameter("speed", value=2.0),
    ]
    assert all(result.successful for result in node.set_parameters(same))
    assert made["speed"] == 2.0
    other = [RosParameter("count", value=2), RosParameter("fixed", value=["b"])]
    assert [result.successful for result in node.set_parameters(other)] == [False, False]
    assert (made["count"], made["fixed"]) == (3, ["a"])


def test_an_empty_list_asks_for_none(domain: int) -> None:
    """As people write it in a file, where it has no type."""
    context = rclpy.Context()
    rclpy.init(args=["--ros-args", "-p", "names:=[]"], context=context, domain_id=domain)
    node = rclpy.create_node("table", context=context, start_parameter_services=False)
    made = ParameterTable(node, ROWS)
    assert made["names"] == []
    (result,) = node.set_parameters([RosParameter("names", value=["a"])])
    assert (result.successful, made["names"]) == (True, ["a"])
    node.destroy_node()
    rclpy.try_shutdown(context=context)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("speed", "fast", "parameter speed: expected a double, got 'fast'"),
        ("speed", 2, "parameter speed: expected a double, as 2.0 is one, got 2"),
        ("speed", 4.0, "parameter speed: expected 0 to 3, got 4.0"),
        ("count", 0, "parameter count: expected 1 to 5, got 0"),
        ("name", "c", "parameter name: expected one of a, b, got 'c'"),
        ("names", ["a", "c"], r"parameter names: expected any of a, b, got \['a', 'c'\]"),
        ("on", 1, "parameter on: expected a bool, got 1"),
    ],
)
def test_start_with_a_value_that_is_not_allowed(
    name: str, value: Any, words: str, context: rclpy.Context
) -> None:
    with pytest.raises(ParameterError, match=words):
        table(context, {name: value})


def test_change_is_told_and_refusal_has_a_reason(context: rclpy.Context) -> None:
    told: list[tuple[str, Any]] = []
    locked = [False]
    node, made = table(
        context, {}, locked=lambda: locked[0], changed=lambda name, value: told.append((name, value))
    )

    def change(name: str, value: Any) -> str:
        (result,) = node.set_parameters([RosParameter(name, value=value)])
        return "" if result.successful else result.reason

    assert change("speed", 0.5) == ""
    assert (made["speed"], told) == (0.5, [("speed", 0.5)])
    assert change("count", 3) == ""
    locked[0] = True
    assert "only while the node is unconfigured" in change("count", 4)
    assert change("speed", 1.0) == ""
    assert change("speed", float("nan")) != ""
    assert "any of a, b" in change("names", ["x"])
    assert change("name", "b") != "", "a parameter of the start is read-only"
    assert (made["count"], made["speed"], made["name"]) == (3, 1.0, "a")


def test_one_wrong_value_takes_none_of_its_company(context: rclpy.Context) -> None:
    node, made = table(context, {})
    result = node.set_parameters_atomically(
        [RosParameter("speed", value=2.0), RosParameter("names", value=["z"])]
    )
    assert not result.successful
    assert made["speed"] == 1.5


@pytest.mark.parametrize("rows", [FUSION, SIMULATION])
def test_tables_are_sound(rows: tuple[Parameter, ...], context: rclpy.Context) -> None:
    _, made = table(context, {}, rows=rows)
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    for row in rows:
        assert made[row.name] == row.default
        assert row.description.endswith("."), row.name
        assert 10 < len(row.description) < 100, row.name


@pytest.mark.parametrize(("name", "rows"), [("fusion", FUSION), ("recorder", RECORDER), ("replay", REPLAY)])
def test_shipped_file_holds_every_parameter_with_its_default(
    name: str, rows: tuple[Parameter, ...], repository: Path
) -> None:
    text = (repository / "config" / f"{name}.yaml").read_text(encoding="utf-8")
    (node,) = yaml.safe_load(text).values()
    flat: dict[str, Any] = {}
    for name, value in node["ros__parameters"].items():
        if isinstance(value, dict):
            flat |= {f"{name}.{key}": below for key, below in value.items()}
        else:
            flat[name] = value
    declared = {row.name: row.default for row in rows}
    assert flat == declared
    assert {k: type(v) for k, v in flat.items()} == {k: type(v) for k, v in declared.items()}


def test_page_is_current(repository: Path) -> None:
    page = (repository / "docs" / "parameters.md").read_text(encoding="utf-8")
    assert page == parameter_docs.page(), (
        "write it anew: python -m robust_perception.ros.parameter_docs > docs/parameters.md"
    )


def fusion(context: rclpy.Context, **given: Any) -> ParameterTable:
    return table(context, {k.replace("__", "."): v for k, v in given.items()}, rows=FUSION)[1]


def test_presence_gets_what_the_parameters_say(context: rclpy.Context) -> None:
    made = fusion(context, rgb__timeout=0.25, audio__enabled=False, gather=0.01, required_any=["depth"])
    config = synchronizer_config(made, MODALITIES)
    assert isinstance(config, SynchronizerConfig)
    by_modality = {sensor.modality: sensor for sensor in config.sensors}
    assert by_modality[Modality.RGB].timeout_ns == 250_000_000
    assert by_modality[Modality.DEPTH].timeout_ns == 300_000_000
    assert {m: sensor.least_shown for m, sensor in by_modality.items()} == dict.fromkeys(MODALITIES, 0.0)
    assert not by_modality[Modality.AUDIO].enabled
    assert config.gather_ns == 10_000_000
    assert config.required_any == (Modality.DEPTH,)


def test_each_image_sensor_has_its_own_measure_of_what_it_must_show(context: rclpy.Context) -> None:
    made = fusion(context, rgb__min_contrast=0.01, depth__min_measured=0.05, thermal__min_span=0.25)
    found = {s.modality.value: s.least_shown for s in synchronizer_config(made, MODALITIES).sensors}
    assert found == {"rgb": 0.01, "depth": 0.05, "thermal": 0.25, "audio": 0.0}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"required_any": ["audio"]}, r"required_any: expected sensors of the model \(rgb, depth\)"),
        ({"min_modalities": 3}, r"min_modalities: expected at most 2 \(rgb, depth\), got 3"),
    ],
)
def test_policy_that_the_model_cannot_meet(given: dict[str, Any], words: str, context: rclpy.Context) -> None:
    with pytest.raises(ParameterError, match=words):
        synchronizer_config(fusion(context, **given), (Modality.RGB, Modality.DEPTH))


def test_depth_beyond_what_counts_hold_is_no_measurement() -> None:
    metres = np.array([[0.5, 6.5, 6.6, np.nan]], np.float32)
    np.testing.assert_array_equal(
        within_reach(metres, 1e-4), np.array([[0.5, 6.5, np.nan, np.nan]], np.float32)
    )
    np.testing.assert_array_equal(within_reach(metres, 1e-3), metres)


def test_the_home_of_nobody_is_no_path() -> None:
    assert path_of("bag", "~/run") == Path.home() / "run"
    with pytest.raises(ParameterError, match="parameter cache: expected a path, got '~nobody_of_this_name"):
        path_of("cache", "~nobody_of_this_name/plans")


def test_sound_format_by_parameters(context: rclpy.Context) -> None:
    assert audio_format(fusion(context)) is None
    node, made = table(context, {"audio.sample_rate": 8000, "audio.channels": 2}, rows=FUSION)
    assert audio_format(made) == AudioFormat(8000, 2, "S16LE")
    node.set_parameters([RosParameter("audio.sample_rate", value=10)])
    with pytest.raises(ParameterError, match="1000 to 384000 Hz, got 10"):
        audio_format(made)


def test_units_by_parameters(context: rclpy.Context) -> None:
    node, made = table(context, {"thermal.encoding_scale": 0.01}, rows=FUSION)
    assert image_units(made).thermal_scale == 0.01
    node.set_parameters([RosParameter("depth.scale", value=0.0001)])
    assert image_units(made).depth_scale == 0.0001

"""A configuration says what it refuses, where, and what would be allowed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from robust_perception.training.config import OptimiserConfig, TrainingConfig
from robust_perception.training.errors import ConfigError
from robust_perception.training.method_config import PatternConfig


def load(tmp_path: Path, text: str) -> TrainingConfig:
    file = tmp_path / "run.yaml"
    file.write_text(text, encoding="utf-8")
    return TrainingConfig.load(file)


def every_key() -> list[str]:
    """Dotted name of every key there is."""
    keys = []
    for section in dataclasses.fields(TrainingConfig):
        inner = getattr(TrainingConfig(), section.name)
        if dataclasses.is_dataclass(inner):
            keys += [f"{section.name}.{field.name}" for field in dataclasses.fields(inner)]
        else:
            keys.append(section.name)
    return keys


@pytest.mark.parametrize("key", every_key())
def test_a_misspelt_key_is_refused_with_the_right_one(key: str, tmp_path: Path) -> None:
    section, _, name = key.rpartition(".")
    typo = name[:-1] + "_" + name[-1]
    text = f"{section}: {{{typo}: 1}}" if section else f"{typo}: 1"
    place = f"{section}.{typo}" if section else typo
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, text)
    said = str(refused.value)
    assert str(tmp_path / "run.yaml") in said
    assert f"unknown key '{place}'" in said
    assert f"did you mean '{name}'" in said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("optimiser: {epochs: many}", r"optimiser\.epochs: expected int, got 'many'"),
        ("optimiser: {epochs: 1.5}", r"optimiser\.epochs: expected int, got 1\.5"),
        ("optimiser: {epochs: true}", r"optimiser\.epochs: expected int, got True"),
        ("optimiser: {epochs: 0}", r"optimiser\.epochs: expected a positive count, got 0"),
        ("optimiser: {learning_rate: -1}", r"optimiser\.learning_rate: expected a value > 0, got -1"),
        ("optimiser: {learning_rate: fast}", r"optimiser\.learning_rate: expected float, got 'fast'"),
        ("optimiser: {warmup: 1}", r"optimiser\.warmup: expected in \[0, 1\)"),
        ("optimiser: 7", "optimiser: expected keys and values, got 7"),
        ("[1, 2]", "expected keys and values"),
        ("data: {classes: both}", r"data\.classes: expected 'fine' or 'coarse', got 'both'"),
        ("data: {modalities: [radar]}", r"data\.modalities: expected names out of .*got \('radar',\)"),
        ("data: {modalities: [audio]}", r"data\.modalities: expected at least one of"),
        ("data: {size: [240]}", r"data\.size: expected .*got \[240\]"),
        ("data: {size: [241, 320]}", r"data\.size: expected .*multiple of 16"),
        ("data: {labelled: 0}", r"data\.labelled: expected a value in \(0, 1\], got 0"),
        ("data: {labelled: 1.5}", r"data\.labelled: expected a value in \(0, 1\], got 1\.5"),
        ("network: {width: 12}", r"network\.width: expected a positive multiple of 8, got 12"),
        ("network: {imagenet: 1}", r"network\.imagenet: expected bool, got 1"),
        ("augmentation: {crop: [100, 128]}", r"augmentation\.crop: expected .*multiples of 32"),
        ("augmentation: {crop: [32, 32]}", r"augmentation\.crop: expected more than one cell"),
        ("augmentation: {scale: [1.5, 1.0]}", r"augmentation\.scale: expected \[low, high\]"),
        ("augmentation: {flip: 1.5}", r"augmentation\.flip: expected a probability, got 1\.5"),
        ("patterns: {dropout_weight: 0, full_weight: 0}", "patterns: expected one pass with a weight"),
        ("patterns: {full_weight: 0, distillation: 1}", r"patterns\.distillation: expected 0 unless"),
        ("losses: {dice: -1}", r"losses\.dice: expected a value >= 0, got -1"),
        ("validation: {every: 0}", r"validation\.every: expected a positive count, got 0"),
        (
            "methods: {weakest: 1}\nnetwork: {auxiliary: true}\npatterns: {dropout_weight: 0}",
            r"methods\.weakest: expected 0 without patterns\.dropout_weight, got 1",
        ),
        (
            "methods: {swap: 1}\nnetwork: {translation: mean}\npatterns: {dropout_weight: 0}",
            r"methods\.swap: expected 0 without patterns\.dropout_weight, got 1",
        ),
        (
            "stages: [{name: warm, share: 0.05}, {name: rest, share: 0.95}]\noptimiser: {epochs: 8}",
            r"stages\.warm\.share: expected a share that is an epoch or more of 8, got 0\.05",
        ),
        (
            "optimiser: {epochs: 3}\nname: x\noptimiser: {batch: 4}",
            r"optimiser: expected each key once, .* in line 3",
        ),
        ("data: {size: [64, 64], size: [80, 80]}", "size: expected each key once"),
        ("a: [", "expected a YAML file"),
        ("!!python/object/apply:os.getcwd []", "expected a YAML file"),
    ],
)
def test_wrong_value_is_refused_with_place_and_value(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        load(tmp_path, text)
    assert str(refused.value).startswith(str(tmp_path / "run.yaml"))


@pytest.mark.parametrize("deep", [10, 100, 1000, 10_000])
@pytest.mark.parametrize("sides", ["[]", ("{a: ", "}")])
def test_what_is_nested_is_refused_in_words_however_deeply(
    deep: int, sides: tuple[str, str], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"run\.yaml: .*expected ") as refused:
        load(tmp_path, f"name: {sides[0] * deep}{sides[1] * deep}")
    assert ("nested too deeply" in str(refused.value)) is (deep >= 1000)


@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf"])
def test_no_number_is_no_learning_rate(value: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"optimiser\.learning_rate"):
        load(tmp_path, f"optimiser: {{learning_rate: {value}}}")


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml: expected a YAML file"):
        TrainingConfig.load(tmp_path / "none.yaml")


def test_what_is_left_out_takes_its_default(tmp_path: Path) -> None:
    assert load(tmp_path, "") == TrainingConfig()
    loaded = load(tmp_path, "optimiser: {learning_rate: 1e-3, batch: 3}")
    assert loaded.optimiser == OptimiserConfig(learning_rate=0.001, batch=3)


@given(
    epochs=st.integers(1, 1000),
    rate=st.floats(1e-7, 1.0),
    flip=st.floats(0.0, 1.0),
    weight=st.floats(0.1, 10.0),
)
def test_text_and_identity_survive_a_round_trip(
    epochs: int, rate: float, flip: float, weight: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    base = TrainingConfig(name="näme")
    config = dataclasses.replace(
        base,
        optimiser=dataclasses.replace(base.optimiser, epochs=epochs, learning_rate=rate),
        augmentation=dataclasses.replace(base.augmentation, flip=flip),
        patterns=PatternConfig(dropout_weight=weight),
    )
    again = load(tmp_path_factory.mktemp("config"), config.to_text())
    assert again == config
    assert again.sha256 == config.sha256
    other = dataclasses.replace(config, name="other")
    assert other.sha256 != config.sha256


def test_shipped_configurations_are_allowed(repository: Path) -> None:
    files = sorted((repository / "config" / "train").glob("*.yaml"))
    assert {"default.yaml", "mm5.yaml"} <= {file.name for file in files}
    for file in files:
        config = TrainingConfig.load(file)
        assert config.name != TrainingConfig().name, f"{file.name} gives the model no name"
        assert config.license != TrainingConfig().license, f"{file.name} gives the model no license"

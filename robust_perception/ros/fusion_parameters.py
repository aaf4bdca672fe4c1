"""The parameters of `fusion_node` and what the other rooms make of them."""

from __future__ import annotations

from robust_perception.engine.choice import CHOICES, PRECISION_CHOICES
from robust_perception.presence.config import TIMEOUTS_S, SensorConfig, SynchronizerConfig
from robust_perception.ros.errors import ParameterError
from robust_perception.ros.parameters import Parameter, ParameterTable
from robust_perception.ros.unit_parameters import UNITS
from robust_perception.runtime.audio import SAMPLE_TYPES, AudioFormat
from robust_perception.runtime.errors import EncodingError
from robust_perception.runtime.pacing import RATE_HZ
from robust_perception.vocabulary import IMAGE_MODALITIES, MODALITIES, Modality

_NAMES = tuple(m.value for m in MODALITIES)


def _of_sensor(modality: Modality) -> list[Parameter]:
    name = modality.value
    timeout = TIMEOUTS_S[modality]
    return [
        Parameter(f"{name}.enabled", True, "Whether the sensor takes part."),
        Parameter(
            f"{name}.timeout",
            timeout,
            "Oldest a message may be, by stamp and by arrival, s.",
            "configured",
            0.01,
            60.0,
        ),
        Parameter(
            f"{name}.frozen_after",
            1.0,
            "Longest that content may stay identical to the byte, s; 0 switches the check off.",
            "configured",
            0.0,
            3600.0,
        ),
        Parameter(
            f"{name}.recover_frames",
            2,
            "Good messages in a row that bring a lost sensor back.",
            "configured",
            1,
            100,
        ),
        Parameter(
            f"{name}.future_tolerance",
            0.5,
            "How far a stamp may lie ahead of the node's clock, s.",
            "configured",
            0.0,
            60.0,
        ),
        Parameter(
            f"{name}.check_header_age",
            True,
            "False compares no stamp with the node's clock, for a sensor with a clock of its own.",
            "configured",
        ),
    ]


SIGHT = {
    Modality.RGB: Parameter(
        "rgb.min_contrast",
        0.0,
        "Least Michelson contrast of a picture that is taken; 0 = every one.",
        "configured",
        0.0,
        1.0,
    ),
    Modality.DEPTH: Parameter(
        "depth.min_measured",
        0.0,
        "Least part of the pixels with a distance of a picture that is taken; 0 = every one.",
        "configured",
        0.0,
        1.0,
    ),
    Modality.THERMAL: Parameter(
        "thermal.min_span",
        0.0,
        "Least kelvin between the cold and the warm parts of a picture that is taken; 0 = every one.",
        "configured",
        0.0,
        1000.0,
    ),
}
"""What an image must show not to be blind, by sensor."""


def _transport(modality: Modality) -> Parameter:
    name = modality.value
    meaning = f"raw takes Image from {name}/image, compressed CompressedImage from {name}/image/compressed."
    return Parameter(f"{name}.transport", "raw", meaning, "configured", choices=("raw", "compressed"))


FUSION: tuple[Parameter, ...] = (
    Parameter("model", "default", "Model folder, or the name of an installed model.", "configured"),
    Parameter("backend", "auto", "What runs the model.", "configured", choices=CHOICES),
    Parameter(
        "precision",
        "auto",
        "Arithmetic the model runs in; auto = the quickest that gives its reference outputs.",
        "configured",
        choices=PRECISION_CHOICES,
    ),
    Parameter(
        "cache",
        "",
        "Folder of the plans that build-engine made for TensorRT; an empty name = the user's own.",
        "configured",
    ),
    Parameter(
        "threads", 0, "Threads of one operator; 0 = the cores this process may use.", "configured", 0, 256
    ),
    Parameter("autostart", True, "Configure and activate without being asked.", "start"),
    Parameter("rate", RATE_HZ, "Most outputs a second, Hz.", "live", 0.1, 1000.0),
    Parameter(
        "gather",
        0.02,
        "How long the first new frame waits for frames about to come, s.",
        "configured",
        0.0,
        1.0,
    ),
    Parameter(
        "required_any",
        [""],
        "No output unless one of these sensors is alive; an empty name asks for none.",
        "configured",
        choices=_NAMES,
    ),
    Parameter(
        "min_modalities", 1, "Fewest sensors alive that give output.", "configured", 1, len(MODALITIES)
    ),
    Parameter(
        "score_threshold",
        -1.0,
        "Least score of a detection; -1 = the model's own for each pattern.",
        "live",
        -1.0,
        1.0,
    ),
    *(row for modality in MODALITIES for row in _of_sensor(modality)),
    *SIGHT.values(),
    *(_transport(modality) for modality in IMAGE_MODALITIES),
    *UNITS,
    Parameter(
        "audio.sample_rate", 0, "Samples a second, Hz; 0 = as AudioInfo says.", "configured", 0, 384_000
    ),
    Parameter(
        "audio.channels", 1, "Interleaved channels; used when audio.sample_rate is set.", "configured", 1, 64
    ),
    Parameter(
        "audio.sample_format",
        "S16LE",
        "Type of a sample; used when audio.sample_rate is set.",
        "configured",
        choices=tuple(SAMPLE_TYPES),
    ),
)
"""The table."""


def synchronizer_config(table: ParameterTable, modalities: tuple[Modality, ...]) -> SynchronizerConfig:
    """Presence settings of the sensors a model has.

    Raises:
        ParameterError: a policy that no set of these sensors can meet.
    """
    sensors = tuple(
        SensorConfig(
            modality,
            timeout_ns=_nanoseconds(table[f"{modality}.timeout"]),
            frozen_after_ns=_nanoseconds(table[f"{modality}.frozen_after"]),
            least_shown=table[SIGHT[modality].name] if modality in SIGHT else 0.0,
            future_tolerance_ns=_nanoseconds(table[f"{modality}.future_tolerance"]),
            recover_frames=table[f"{modality}.recover_frames"],
            check_header_age=table[f"{modality}.check_header_age"],
            enabled=table[f"{modality}.enabled"],
        )
        for modality in modalities
    )
    required = tuple(Modality(name) for name in table["required_any"] if name)
    known = ", ".join(m.value for m in modalities)
    if not set(required) <= set(modalities):
        raise ParameterError("required_any", f"sensors of the model ({known})", table["required_any"])
    if table["min_modalities"] > len(modalities):
        raise ParameterError(
            "min_modalities", f"at most {len(modalities)} ({known})", table["min_modalities"]
        )
    return SynchronizerConfig(
        sensors,
        gather_ns=_nanoseconds(table["gather"]),
        required_any=required,
        min_modalities=table["min_modalities"],
    )


def audio_format(table: ParameterTable) -> AudioFormat | None:
    """The format set by parameters; None = AudioInfo says.

    Raises:
        ParameterError: the values make no format.
    """
    rate = table["audio.sample_rate"]
    if rate == 0:
        return None
    try:
        return AudioFormat(rate, table["audio.channels"], table["audio.sample_format"])
    except EncodingError as error:
        raise ParameterError("audio.*", "a format of plain samples", str(error)) from None


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)

"""Is a sensor alive, and which frames go together: health and the synchronizer. No clock of its own."""

from robust_perception.presence.config import SensorConfig, SynchronizerConfig
from robust_perception.presence.errors import ConfigError, PresenceError, UnknownSensorError
from robust_perception.presence.status import SensorState, SensorStatus
from robust_perception.presence.synchronizer import Synchronizer

__all__ = [
    "ConfigError",
    "PresenceError",
    "SensorConfig",
    "SensorState",
    "SensorStatus",
    "Synchronizer",
    "SynchronizerConfig",
    "UnknownSensorError",
]

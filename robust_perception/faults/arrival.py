"""Whether and when a frame arrives.

| fault   | lost when                                  | arrives later by                         |
|---------|--------------------------------------------|------------------------------------------|
| loss    | always                                     |                                          |
| flap    | in the first 1 - duty of every period      |                                          |
| drop    | a random number in [0, 1) is below `part`  |                                          |
| delay   |                                            | `seconds`                                |
| jitter  |                                            | a random time in [0, `seconds`)          |
| reorder |                                            | `seconds`, when a random number < `part` |

Jitter that is longer than a sensor's period also changes the order.
"""

from __future__ import annotations

from robust_perception.faults.kinds import Fault
from robust_perception.faults.moment import Moment


def lost(fault: Fault, moment: Moment) -> bool:
    """Whether a fault whose window covers the moment lets nothing arrive."""
    if fault.kind == "drop":
        return bool(moment.chance.random() < fault.values["part"])
    return fault.silences(moment.t_s)


def delay_s(fault: Fault, moment: Moment) -> float:
    """Seconds by which a fault whose window covers the moment makes the frame late."""
    if fault.kind == "delay":
        return fault.values["seconds"]
    if fault.kind == "jitter":
        return float(moment.chance.random()) * fault.values["seconds"]
    if fault.kind == "reorder":
        return fault.values["seconds"] if moment.chance.random() < fault.values["part"] else 0.0
    return 0.0

"""Writes docs/parameters.md from the tables that the nodes declare.

python -m robust_perception.ros.parameter_docs > docs/parameters.md
"""

from __future__ import annotations

import sys

from robust_perception.ros.fusion_parameters import FUSION
from robust_perception.ros.parameters import to_markdown
from robust_perception.ros.recorder_node import RECORDER
from robust_perception.ros.replay_parameters import REPLAY
from robust_perception.ros.simulation_node import SIMULATION

HEAD = """# Parameters

Made by `python -m robust_perception.ros.parameter_docs > docs/parameters.md` from the tables that the nodes
declare.
`config/fusion.yaml` holds those of `fusion_node` with a word on how to find each value.

A value that is not allowed ends the node at start (exit code 2) or is refused later, with the reason. A name
that no node declares gives a warning with the nearest known one. *while unconfigured*: `ros2 lifecycle set
/fusion deactivate`, then `cleanup`, set the parameter, then `configure` and `activate`.

Every sensor subscription of `fusion_node` also takes the standard parameters
`qos_overrides.<topic>.subscription.history`, `.depth`, `.reliability` and `.durability`. A value of these
that is not allowed keeps the node from being activated, with the choices in the log and on `/diagnostics`.
"""


def page() -> str:
    """The whole page."""
    tables = {
        "fusion_node": FUSION,
        "simulation_node": SIMULATION,
        "replay_node": REPLAY,
        "recorder_node": RECORDER,
    }
    return "\n".join([HEAD, *(to_markdown(name, rows) for name, rows in tables.items())])


if __name__ == "__main__":
    sys.stdout.write(page())

"""The launch file under the real launch, where that is installed; elsewhere test_launch_file.py stands in."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("launch_ros", reason="launch_ros is not among the Python wheels of ROS")


@pytest.mark.ros
@pytest.mark.parametrize("source", ["live", "simulation"])
def test_real_launch_starts_the_nodes(
    source: str, launch_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from launch import LaunchDescription, LaunchService
    from launch.actions import EmitEvent, IncludeLaunchDescription, RegisterEventHandler
    from launch.event_handlers import OnProcessStart
    from launch.events import Shutdown
    from launch.launch_description_sources import PythonLaunchDescriptionSource

    monkeypatch.setenv("ROS_DOMAIN_ID", "62")
    expected = {"live": 1, "simulation": 2}[source]
    started: list[str] = []

    def note(event, context):
        started.append(" ".join(event.cmd))
        return [EmitEvent(event=Shutdown(reason="seen"))] if len(started) == expected else []

    service = LaunchService()
    include = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(launch_file)), launch_arguments={"source": source}.items()
    )
    handler = RegisterEventHandler(OnProcessStart(on_start=note))
    service.include_launch_description(LaunchDescription([handler, include]))
    assert service.run() == 0
    assert "lib/robust_perception/fusion_node" in started[0]
    assert "__node:=fusion" in started[0]

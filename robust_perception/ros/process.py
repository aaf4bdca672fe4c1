"""From the command line to a node that runs until it is told to stop: what every executable here shares.

The executor has a thread of its own and the main thread waits for a signal. Python runs signal handlers in
the main thread, and these do nothing but set a flag: a second SIGINT, as launch sends it, cannot interrupt
the shutdown.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import rclpy
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args

from robust_perception import environment
from robust_perception.ros import qos
from robust_perception.ros.errors import RosError

WRONG_USAGE = 2

REFUSED_AGAIN_S = 10.0
"""Seconds between two log lines about a clock that cannot be followed."""

Transition = Callable[[Any, LifecycleState], TransitionCallbackReturn]


class End(threading.Event):
    """Set when the process is to end, by a node that has an end of its own."""

    failed = False
    """Whether something went wrong before that end."""


def transition(method: Transition) -> Transition:
    """Log what a transition raises: rclpy turns it into an error state and keeps the exception to itself."""

    @functools.wraps(method)
    def logging(self: Any, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return method(self, state)
        except Exception:
            self.get_logger().fatal(f"{method.__name__} failed:\n{traceback.format_exc()}")
            return TransitionCallbackReturn.ERROR

    return logging


def run(
    make: Callable[[], LifecycleNode],
    autostart: Callable[[Any], bool],
    argv: Sequence[str] | None = None,
    stop: threading.Event | None = None,
    stays: Callable[[Any], bool] = lambda node: True,
) -> int:
    """Run a lifecycle node until SIGINT, SIGTERM or SIGHUP. To be called from the main thread.

    A node that does not configure or activate by itself has said why. Most stay: whoever mends the cause can
    configure them again without starting them anew. One that has a task with an end ends, for nobody may be
    there who would.

    Args:
        make: makes the node, in an initialised ROS context.
        autostart: whether this node configures and activates itself.
        argv: command line with the program's name; None = sys.argv.
        stop: ends the run when set, as a signal does; for a node that has an end of its own.
        stays: whether this node stays when it cannot start by itself.

    Returns:
        Exit code: 0 when told to stop, 1 after an error in a callback or when a node that is not to stay
        cannot start, 2 when ROS does not take the command line, a parameter given at start is not allowed or
        the package is here without its data files.
    """
    words = list(argv if argv is not None else sys.argv)
    ended = stop or threading.Event()
    failures: list[BaseException] = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # The terminal that goes away ends a recording with a whole bag, too; `nohup` asks to outlive it.
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, lambda *_: ended.set())
    try:
        warning = qos.profile_warning(os.environ)
        environment.prepare()
    except FileNotFoundError as error:  # the package has come without its data files
        print(error, file=sys.stderr)
        return WRONG_USAGE
    try:
        rclpy.init(args=words, signal_handler_options=SignalHandlerOptions.NO)
    except (
        RuntimeError
    ) as error:  # of rcl: a parameter file that is not there, a remapping to what is no name
        print(f"ROS does not start: {error}", file=sys.stderr)
        return WRONG_USAGE
    try:
        node = make()
    except (RosError, InvalidParameterTypeException) as error:  # the latter of what rclpy itself declares
        rclpy.logging.get_logger("robust_perception").fatal(str(error))
        rclpy.try_shutdown()
        return WRONG_USAGE
    if warning:
        node.get_logger().warning(warning)
    if idle := remove_ros_args(words)[1:]:
        node.get_logger().warning(
            f"expected parameters as --ros-args -p NAME:=VALUE, got {' '.join(idle)}, which has no effect"
        )
    # rclpy keeps what was given to the node to itself, hence the fallback.
    if "--params-file" in words and not getattr(node, "_parameter_overrides", words):
        name = node.get_fully_qualified_name()
        node.get_logger().warning(
            f"the parameter file says nothing to this node: expected a section {name} or /**, got none"
        )
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    wake = node.create_guard_condition(lambda: None)
    spinning = threading.Thread(target=_spin, args=(executor, node, failures, ended), name="executor")
    try:
        failed = autostart(node) and not _starts(node) and not stays(node)
        if not failed:
            spinning.start()
            ended.wait()
    finally:
        ended.set()
        if spinning.is_alive():
            wake.trigger()
            spinning.join()
        # No callback runs any more, so nothing can meet a publisher or a timer that is half gone.
        with suppress(RuntimeError):  # of rcl: somebody has shut the node down through its service already
            node.trigger_shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    for failure in failures:
        traceback.print_exception(failure, file=sys.stderr)
    return 1 if failures or failed else 0


def _starts(node: LifecycleNode) -> bool:
    """Whether the node configures and activates."""
    done = TransitionCallbackReturn.SUCCESS
    return node.trigger_configure() == done and node.trigger_activate() == done


def _spin(
    executor: SingleThreadedExecutor,
    node: LifecycleNode,
    failures: list[BaseException],
    ended: threading.Event,
) -> None:
    try:
        while not ended.is_set():
            try:
                executor.spin_once()
            except ValueError as error:
                if not _of_clock(error):
                    raise
                node.get_logger().error(
                    f"/clock: expected a time from 0 on, got one that is ignored: {error}",
                    throttle_duration_sec=REFUSED_AGAIN_S,
                )
    except Exception as error:  # printed by the main thread, which also ends the process
        failures.append(error)
    finally:
        ended.set()


def _of_clock(error: ValueError) -> bool:
    """Whether rclpy has met a message of /clock below 0, of which it makes no time."""
    return any(
        frame.f_globals.get("__name__") == "rclpy.time_source"
        for frame, _ in traceback.walk_tb(error.__traceback__)
    )

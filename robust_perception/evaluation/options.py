"""Options of the commands that measure a model."""

from __future__ import annotations

import argparse

from robust_perception import arguments
from robust_perception.engine.choice import CHOICES, PRECISION_CHOICES


def add_classes_option(parser: argparse.ArgumentParser) -> None:
    """Add which labels of the data are meant."""
    parser.add_argument(
        "--classes",
        choices=("auto", "fine", "coarse"),
        default="auto",
        help="labels to use; auto = those of the model (default: %(default)s)",
    )


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add what runs the model, and how."""
    parser.add_argument(
        "--backend", choices=CHOICES, default="auto", help="what runs the model (default: %(default)s)"
    )
    parser.add_argument(
        "--precision",
        choices=PRECISION_CHOICES,
        default="auto",
        help="arithmetic the model runs in (default: %(default)s)",
    )
    arguments.add_cache_option(parser)
    parser.add_argument(
        "--threads",
        type=arguments.positive,
        help="most processor threads that work at a time (default: one a core)",
    )

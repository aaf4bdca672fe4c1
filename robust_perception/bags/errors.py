"""What can go wrong with a bag."""

from __future__ import annotations


class BagError(Exception):
    """A bag cannot be read or written; the message names it, what was expected, what came and what to do."""


class MessageTypeError(BagError):
    """A message type that neither ROS nor this project defines was asked for."""

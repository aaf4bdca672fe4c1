"""Perception from RGB, depth, thermal and sound that survives the loss of any of its sensors."""

__version__ = "0.1.0"

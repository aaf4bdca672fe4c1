"""What the simulated world contains, chosen so that every sensor is the only witness of something.

| told apart by  | classes                                                                       |
|----------------|-------------------------------------------------------------------------------|
| colour (rgb)   | ball_red, ball_blue                                                           |
| heat (thermal) | cup_hot, cup_cold; a person in the dark or behind smoke                       |
| sound (audio)  | clock_ticking, clock_silent; at most one clock in a scene, so the sound is its |
| shape (depth)  | a person and the photograph of a person on the wall, which is background      |

Scene classes are what is going on, present together or not at all: `ticking` (the clock ticks), `voice`
(somebody speaks, in view or not), `boiling` (the kettle boils: heard, and seen hot).
"""

from __future__ import annotations

CLASS_NAMES: tuple[str, ...] = (
    "background",
    "person",
    "ball_red",
    "ball_blue",
    "crate",
    "cup_hot",
    "cup_cold",
    "clock_ticking",
    "clock_silent",
    "kettle",
)
"""Class index -> name; the index is the label map's value."""

SCENE_NAMES: tuple[str, ...] = ("ticking", "voice", "boiling")
"""Scene class index -> name."""


def class_id(name: str) -> int:
    """Index of a class; ValueError with the known names when there is no such class."""
    try:
        return CLASS_NAMES.index(name)
    except ValueError:
        msg = f"a simulated class is one of {', '.join(CLASS_NAMES)}, got {name!r}"
        raise ValueError(msg) from None

"""Simulation room: a seeded four-sensor rig in MuJoCo, data sets made with it, and scripted sensor faults.

`classes` and `faults` need no graphics; `rig` needs EGL (see `graphics`).
"""

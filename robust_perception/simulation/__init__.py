"""Simulation room: a seeded four-sensor rig in MuJoCo, and data sets made with it.

`classes` needs no graphics; `rig` needs EGL (see `graphics`).
"""

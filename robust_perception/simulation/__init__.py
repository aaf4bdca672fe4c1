"""Simulation room: a seeded four-sensor rig in MuJoCo, data sets made with it, and scripted sensor faults.

`classes`, `faults` and `fault_script` need no graphics; `rig` needs EGL (see `graphics`).
"""

"""The robustness card: one page about how a model perceives when sensors fail, and a gate for regressions."""

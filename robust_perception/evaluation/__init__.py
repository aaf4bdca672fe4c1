"""Metrics, and the protocol that measures a model under every pattern of its sensors."""

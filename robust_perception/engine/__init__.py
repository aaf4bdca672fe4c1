"""Runs exported graphs: manifest, backends, latent cache, self-check. Needs no torch."""

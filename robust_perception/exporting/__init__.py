"""From a trained network to the files of a model folder; see `export.py` for the order."""

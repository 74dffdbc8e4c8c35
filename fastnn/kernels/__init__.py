"""All of Numba, and nothing else: tiles, layers, workers, whole steps."""

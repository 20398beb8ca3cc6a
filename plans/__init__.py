"""Bluesky plans: darks, flats, tomogram, half-cycle and the whole experiment."""

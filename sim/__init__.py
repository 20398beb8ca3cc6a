"""The virtual beamline: a cell that cracks, seen over real Channel Access."""

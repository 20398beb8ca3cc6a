"""Simulated IOCs: what each device of the beamline serves over Channel Access."""

"""Names of streams, data keys and datasets, said once."""

BASELINE = "baseline"
DARKS = "darks"
FLATS = "flats"
PROJECTIONS = "projections"
ANGLES = "angles"
ELECTROCHEMISTRY = "electrochemistry"
OUTCOME = "outcome"

ROTATION_ANGLE_DEG = "rotation_angle_deg"

"""Names of streams, data keys and datasets, said once."""

BASELINE = "baseline"
DARKS = "darks"
FLATS = "flats"
FLATS_AFTER = "flats_after"
PROJECTIONS = "projections"
ANGLES = "angles"
CONDITIONS = "conditions"
ELECTROCHEMISTRY = "electrochemistry"
OUTCOME = "outcome"

ROTATION_ANGLE_DEG = "rotation_angle_deg"

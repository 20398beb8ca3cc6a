"""Whether the pellet is as large as the cell's description says.

A voxel size that is wrong by a factor scales every result without a trace in any of
them; only the pellet, whose size is known, tells.
"""

from analysis.measurement.settings import MeasurementSettings


def size_reason(
    diameter_um: float,
    thickness_um: float | None,
    voxel_um: float,
    settings: MeasurementSettings,
) -> str:
    """Return what is wrong with the pellet's size, empty where nothing is.

    Parameters
    ----------
    diameter_um, thickness_um : float
        As measured; the thickness is None where the faces could not be fitted.
    voxel_um : float
        Edge of a voxel that they were measured with.
    settings : MeasurementSettings
        What the pellet ought to be, and how far it may be off.
    """
    pairs = (
        ("diameter", diameter_um, settings.pellet_diameter_um),
        ("thickness", thickness_um, settings.pellet_thickness_um),
    )
    tolerance = settings.pellet_tolerance_frac
    wrong = [
        (name, found, declared)
        for name, found, declared in pairs
        if found is not None
        and declared is not None
        and abs(found / declared - 1) > tolerance
    ]
    if not wrong:
        return ""
    sizes = ", ".join(
        f"{name} {found:.4g} um where {declared:.4g} is declared"
        for name, found, declared in wrong
    )
    _, found, declared = wrong[0]
    return (
        f"pellet has {sizes} (allowed: {100 * tolerance:.3g} %): with it a voxel would "
        f"be {voxel_um * declared / found:.4g} um, not {voxel_um:.4g}; check the voxel "
        "size and the cell's dimensions"
    )

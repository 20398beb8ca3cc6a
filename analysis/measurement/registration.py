"""Where a tomogram lies relative to the pristine one: a rigid motion below the voxel.

The cell is never moved on purpose, so the motion is small: drift, tilt, a turn of the
stage. It is found by Gauss-Newton steps on a pyramid of coarse volumes, with a gain and
an offset of the grey left free and with weights that leave out the new cracks.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from analysis.errors import MeasurementError

REGISTRATION_SIDE = 320  # widest side of the volume that is registered, voxels
TUKEY = 4.685

# Blur, number of points and last step (voxels of the coarse volume) of each round.
ROUNDS = ((4.0, 40_000, 0.02), (2.0, 60_000, 0.01), (1.0, 200_000, 0.0005))


@dataclass(frozen=True)
class RigidMotion:
    """``x = R (X - centre) + centre + translation`` from a reference to a volume.

    Attributes
    ----------
    rotation : ndarray, shape (3,)
        Rotation vector (z, y, x) in radians.
    translation : ndarray, shape (3,)
        (z, y, x) in voxels.
    centre : ndarray, shape (3,)
        (z, y, x) in voxels.
    residual_frac : float
        Robust scatter of the grey that is left, as a fraction of the contrast.
    step_px : float
        Largest displacement by the last step: near 0 where it converged.
    """

    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]
    centre: NDArray[np.float64]
    residual_frac: float = 0.0
    step_px: float = 0.0

    @classmethod
    def none(cls) -> "RigidMotion":
        """Return the motion that moves nothing."""
        return cls(np.zeros(3), np.zeros(3), np.zeros(3))

    @property
    def matrix(self) -> NDArray[np.float64]:
        """Rotation matrix in (z, y, x)."""
        # A rotation in (z, y, x) coordinates: the handedness of the axes cancels, as
        # vector and coordinates are reversed together.
        return Rotation.from_rotvec(self.rotation).as_matrix()

    def in_voxels_of(self, factor: int) -> "RigidMotion":
        """Return the motion for volumes whose voxels were binned by ``factor``."""
        return RigidMotion(
            self.rotation,
            self.translation * factor,
            (self.centre + 0.5) * factor - 0.5,
            self.residual_frac,
            self.step_px * factor,
        )

    @property
    def offset(self) -> NDArray[np.float64]:
        """Return ``b`` of ``x = R X + b``."""
        return self.centre + self.translation - self.matrix @ self.centre

    def apply(self, points: NDArray[Any]) -> NDArray[np.float64]:
        """Move points (..., 3) of the reference."""
        return np.asarray(points @ self.matrix.T + self.offset)


def between(
    current: RigidMotion, previous: RigidMotion
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return ``A, b`` with ``x_previous = A x_current + b``."""
    matrix = previous.matrix @ current.matrix.T
    return matrix, previous.offset - matrix @ current.offset


def registration_volume(
    coarse: NDArray[np.float32], factor: int
) -> tuple[NDArray[np.float32], int]:
    """Return a coarse volume binned until it is small enough, and its factor."""
    while max(coarse.shape) > REGISTRATION_SIDE:
        z, y, x = (size // 2 for size in coarse.shape)
        cropped = coarse[: 2 * z, : 2 * y, : 2 * x].reshape(z, 2, y, 2, x, 2)
        coarse = cropped.mean(axis=(1, 3, 5), dtype=np.float32)
        factor *= 2
    return coarse, factor


def register_rigid(
    fixed: NDArray[np.float32],
    moving: NDArray[np.float32],
    *,
    mask: NDArray[np.bool_] | None = None,
    contrast: float | None = None,
    start: RigidMotion | None = None,
    rotation_sd_rad: float = 1.0,
    seed: int = 0,
) -> RigidMotion:
    """Find the rigid motion from ``fixed`` to ``moving``.

    Parameters
    ----------
    fixed, moving : ndarray, shape (z, y, x)
        Volumes of one shape.
    mask : ndarray of bool, optional
        Voxels of ``fixed`` that count.
    contrast : float, optional
        Grey that the residual is given relative to; without it the range of the
        middle 98 % of the greys.
    start : RigidMotion, optional
        Where to begin, in voxels of these volumes.
    rotation_sd_rad : float
        How far a rotation is likely: what a featureless disc, whose turn about its
        axis cannot be seen, is held to.
    seed : int
        Of the choice of voxels.

    Raises
    ------
    ValueError
        Where the shapes differ.
    MeasurementError
        Where too few voxels count.
    """
    if fixed.shape != moving.shape:
        raise ValueError(
            f"volumes of {fixed.shape} and {moving.shape} voxels cannot be "
            "registered; they must have one shape"
        )
    centre = (np.array(fixed.shape) - 1) / 2
    if contrast is None:
        low, high = np.percentile(fixed[:: max(1, len(fixed) // 64)], [1, 99])
        contrast = float(high - low)
    rotation, translation = np.zeros(3), np.zeros(3)
    if start is not None:
        # The same motion, told about the middle of the volume.
        rotation = start.rotation.copy()
        translation = start.apply(centre) - centre
    generator = np.random.default_rng(seed)
    motion = RigidMotion(rotation, translation, centre)
    for blur, number, last_step in ROUNDS:
        if min(fixed.shape) < 12 * blur:
            continue
        points = _points(fixed.shape, mask, number, generator)
        motion = _gauss_newton(
            np.asarray(ndimage.gaussian_filter(fixed, blur), np.float64),
            np.asarray(ndimage.gaussian_filter(moving, blur), np.float64),
            points, motion, contrast, last_step,
            # Blurred points within this volume tell the same.
            (2 * np.sqrt(np.pi) * blur) ** 3 / rotation_sd_rad**2,
        )  # fmt: skip
    return motion


def _points(
    shape: tuple[int, ...],
    mask: NDArray[np.bool_] | None,
    number: int,
    generator: np.random.Generator,
) -> NDArray[np.intp]:
    """Return some voxels (point, 3) of the mask away from the border."""
    margin = 4
    inner = np.zeros(shape, bool)
    inner[margin:-margin, margin:-margin, margin:-margin] = True
    if mask is not None:
        inner &= mask
    candidates = np.flatnonzero(inner)
    if len(candidates) < 1000:
        raise MeasurementError(
            f"{len(candidates)} voxels of the pellet count for the registration, at "
            "least 1000 are needed"
        )
    if len(candidates) > number:
        candidates = generator.choice(candidates, number, replace=False)
    return np.stack(np.unravel_index(candidates, shape), axis=1)


def _gauss_newton(
    fixed: NDArray[np.float64],
    moving: NDArray[np.float64],
    points: NDArray[np.intp],
    motion: RigidMotion,
    contrast: float,
    last_step: float,
    held: float,
) -> RigidMotion:
    """Improve a motion; ``held`` is the prior of a rotation in units of the noise."""
    at = tuple(points.T)
    gradient = np.stack([_derivative(fixed, at, axis) for axis in range(3)], axis=1)
    target = fixed[at]
    spline = np.asarray(ndimage.spline_filter(moving, order=3))
    arm = points - motion.centre
    rotation, translation = motion.rotation, motion.translation
    reach = np.abs(arm).max()
    gain, offset, scale, step = 1.0, 0.0, contrast, np.inf
    for _ in range(25):
        current = RigidMotion(rotation, translation, motion.centre)
        at = current.apply(points)
        seen = ((at >= 1) & (at <= np.array(moving.shape) - 2)).all(axis=1)
        value = np.asarray(
            ndimage.map_coordinates(spline, at[seen].T, order=3, prefilter=False)
        )
        residual = gain * value + offset - target[seen]
        scale = 1.4826 * float(np.median(np.abs(residual - np.median(residual))))
        ratio = residual / (TUKEY * max(scale, 1e-4 * contrast))
        weight = np.where(np.abs(ratio) < 1, (1 - ratio**2) ** 2, 0.0)
        grad, lever = gradient[seen], arm[seen]
        turning = np.cross(lever, grad)
        design = np.column_stack([grad, turning, value, np.ones(len(value))])
        weighted = design * weight[:, None]
        # The pulled-back volume is the fixed one moved a little, and greyed:
        # fixed + grad . shift + (arm x grad) . turn = gain * value + offset.
        normal = design.T @ weighted
        right = weighted.T @ target[seen]
        prior = held * scale**2
        normal[3:6, 3:6] += prior * np.eye(3)
        right[3:6] -= prior * rotation
        solution, *_ = np.linalg.lstsq(normal, right, rcond=1e-12)
        shift, turn = -solution[:3], -solution[3:6]
        gain, offset = float(solution[6]), float(solution[7])
        small = Rotation.from_rotvec(turn)
        rotation_now = Rotation.from_rotvec(rotation) * small.inv()
        translation = translation - rotation_now.apply(shift)
        rotation = rotation_now.as_rotvec()
        step = float(np.abs(shift).max() + np.abs(turn).max() * reach)
        if step < last_step:
            break
    return RigidMotion(rotation, translation, motion.centre, scale / contrast, step)


def _derivative(
    volume: NDArray[np.float64], at: tuple[NDArray[np.intp], ...], axis: int
) -> NDArray[np.float64]:
    """Return the central difference at voxels away from the border."""
    ahead, behind = list(at), list(at)
    ahead[axis] = at[axis] + 1
    behind[axis] = at[axis] - 1
    return 0.5 * (volume[tuple(ahead)] - volume[tuple(behind)])

"""How the cracks grow over the series: a law, its speed and what is not known of it.

The paper calls the growth logarithmic in the label N and its slow-down exponential.
Both are fitted and Akaike's criterion tells which one the data prefer; the logarithm
needs three tomograms, the exponential five.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

Law = Literal["logarithmic", "exponential"]

MIN_TOMOGRAMS: dict[Law, int] = {"logarithmic": 3, "exponential": 5}


@dataclass(frozen=True)
class GrowthFit:
    """A law of growth fitted to crack volumes over labels.

    Attributes
    ----------
    law : str
        ``logarithmic``: ``V = a + b ln N``; ``exponential``:
        ``V = a + b (1 - exp(-(N - 1) / c))``.
    parameters, parameter_sd : ndarray
        a and b in um3, c in labels.
    covariance : ndarray
        Of the parameters.
    aic : float
        Akaike's criterion for small samples; the lower the better.
    residual_sd_um3 : float
        Scatter of the volumes about the law.
    num_tomograms : int
        Number of volumes fitted.
    """

    law: Law
    parameters: NDArray[np.float64]
    parameter_sd: NDArray[np.float64]
    covariance: NDArray[np.float64]
    aic: float
    residual_sd_um3: float
    num_tomograms: int

    def volume_um3(self, labels: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return the crack volume that the law gives at labels."""
        return _LAWS[self.law](np.asarray(labels, np.float64), *self.parameters)

    def speed_um3(
        self, labels: NDArray[np.floating], confidence: float = 0.95
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Return the growth per label (um3) and the limits of its confidence band.

        Parameters
        ----------
        labels : ndarray
            Labels N, from 1.
        confidence : float
            Probability that the speed lies within the limits.
        """
        n = np.asarray(labels, np.float64)
        if self.law == "logarithmic":
            speed = self.parameters[1] / n
            slopes = np.stack([np.zeros_like(n), 1 / n])
        else:
            _, b, c = self.parameters
            fall = np.exp(-(n - 1) / c)
            speed = b / c * fall
            slopes = np.stack(
                [np.zeros_like(n), fall / c, b * fall / c**2 * ((n - 1) / c - 1)]
            )
        sd = np.sqrt(np.einsum("in,ij,jn->n", slopes, self.covariance, slopes))
        freedom = max(1, self.num_tomograms - len(self.parameters))
        reach = float(stats.t.ppf(0.5 + confidence / 2, freedom)) * sd
        return speed, speed - reach, speed + reach


def _logarithmic(n: NDArray[np.float64], a: float, b: float) -> NDArray[np.float64]:
    return a + b * np.log(n)


def _exponential(
    n: NDArray[np.float64], a: float, b: float, c: float
) -> NDArray[np.float64]:
    return a + b * (1 - np.exp(-(n - 1) / c))


_LAWS: dict[str, Callable[..., NDArray[np.float64]]] = {
    "logarithmic": _logarithmic,
    "exponential": _exponential,
}


def fit_growth(
    labels: Sequence[float],
    volumes_um3: Sequence[float],
    sd_um3: Sequence[float] | None = None,
) -> tuple[GrowthFit, ...]:
    """Fit the laws of growth that the number of tomograms allows, the best one first.

    Parameters
    ----------
    labels : sequence of float
        Labels N of the tomograms; the pristine one, label 0, is left out.
    volumes_um3 : sequence of float
        Crack volumes; those that are not finite are left out.
    sd_um3 : sequence of float, optional
        Their uncertainties; without them all count alike.

    Returns
    -------
    tuple[GrowthFit, ...]
        Empty with fewer than three tomograms.
    """
    n = np.asarray(labels, np.float64)
    volumes = np.asarray(volumes_um3, np.float64)
    sd = np.ones_like(volumes) if sd_um3 is None else np.asarray(sd_um3, np.float64)
    if not n.shape == volumes.shape == sd.shape:
        raise ValueError(
            f"{len(n)} labels, {len(volumes)} volumes and {len(sd)} uncertainties; "
            "give one of each for a tomogram"
        )
    used = (n >= 1) & np.isfinite(volumes) & np.isfinite(sd)
    n, volumes, sd = n[used], volumes[used], sd[used]
    # The law itself is no better than a few percent: no point may rule alone.
    sd = np.hypot(sd, 0.01 * np.abs(volumes).max(initial=1e-30))
    fits = []
    for law, least in MIN_TOMOGRAMS.items():
        if len(np.unique(n)) >= least:
            fit = _fit(law, n, volumes, sd)
            if fit is not None:
                fits.append(fit)
    return tuple(sorted(fits, key=lambda fit: fit.aic))


def _fit(
    law: Law,
    n: NDArray[np.float64],
    volumes: NDArray[np.float64],
    sd: NDArray[np.float64],
) -> GrowthFit | None:
    """Return the fit of one law; None where it does not converge."""
    if law == "logarithmic":
        design = np.stack([np.ones_like(n), np.log(n)], axis=1) / sd[:, None]
        parameters, *_ = np.linalg.lstsq(design, volumes / sd, rcond=None)
        inverse = np.linalg.pinv(design.T @ design)
    else:
        rise = float(volumes.max() - volumes.min())
        start = (float(volumes[n.argmin()]), max(rise, 1e-9), float(np.ptp(n)) / 3)
        try:
            found = optimize.least_squares(
                lambda p: (_exponential(n, *p) - volumes) / sd,
                start,
                bounds=((-np.inf, -np.inf, 0.05), (np.inf, np.inf, 1e3)),
                x_scale=np.maximum(np.abs(start), 1e-9),
            )
        except ValueError:
            return None
        if not found.success:
            return None
        parameters = found.x
        inverse = np.linalg.pinv(found.jac.T @ found.jac)
    parameters = np.asarray(parameters, np.float64)
    weighted = (_LAWS[law](n, *parameters) - volumes) / sd
    number, free = len(n), len(n) - len(parameters)
    chi_square = float(weighted @ weighted)
    # The scatter of the points sets the uncertainty, as far as there is any.
    scale = chi_square / free if free > 0 else 1.0
    covariance = np.asarray(inverse * max(scale, 1e-12), np.float64)
    terms = len(parameters) + 1
    aic = number * np.log(max(chi_square / number, 1e-12)) + 2 * terms
    if number - terms - 1 > 0:
        aic += 2 * terms * (terms + 1) / (number - terms - 1)
    residual = _LAWS[law](n, *parameters) - volumes
    return GrowthFit(
        law=law,
        parameters=parameters,
        parameter_sd=np.sqrt(np.diag(covariance)),
        covariance=covariance,
        aic=float(aic),
        residual_sd_um3=float(np.sqrt(residual @ residual / max(free, 1))),
        num_tomograms=number,
    )


@dataclass(frozen=True)
class Compression:
    """How an electrode thins over the series.

    Attributes
    ----------
    total_um : float
        Thickness of the first tomogram less that of the last.
    first_cycles_um : float
        The same over the first five cycles, or as far as the series goes.
    per_cycle_um, per_cycle_sd_um : float
        Mean rate after the first five cycles; NaN before three tomograms of them.
    """

    total_um: float
    first_cycles_um: float
    per_cycle_um: float
    per_cycle_sd_um: float


def electrode_compression(
    labels: Sequence[float], thickness_um: Sequence[float | None]
) -> Compression | None:
    """Return how an electrode is compressed; None with fewer than two thicknesses.

    A label is a cycle: labels 1 and 1.5 are its charge and its discharge.
    """
    pairs = [
        (label, value)
        for label, value in zip(labels, thickness_um, strict=True)
        if value is not None and np.isfinite(value)
    ]
    if len(pairs) < 2:
        return None
    n, thickness = np.array(sorted(pairs)).T
    early = n <= 5
    first = thickness[0] - thickness[early][-1] if early.any() else 0.0
    rate, rate_sd = np.nan, np.nan
    late = ~early
    if late.sum() >= 3:
        line: Any = stats.linregress(n[late], thickness[late])
        rate, rate_sd = -float(line.slope), float(line.stderr)
    return Compression(float(thickness[0] - thickness[-1]), float(first), rate, rate_sd)

"""Laws of growth recovered from series that follow them."""

import numpy as np
import pytest

from analysis.measurement.trends import electrode_compression, fit_growth

LABELS = np.arange(1, 15.5, 0.5)
PAPER_A, PAPER_B = 2.75e7, 1.403e8


def paper_volumes(noise=0.0, seed=0):
    law = PAPER_A + PAPER_B * np.log(LABELS)
    return law * (1 + noise * np.random.default_rng(seed).standard_normal(len(law)))


def test_the_papers_law_is_found_from_its_three_filling_fractions():
    # Crack volumes at N = 1, 1.5 and 15 that its filling fractions imply.
    best, *_ = fit_growth([1, 1.5, 15], [2.75e7, 8.72e7, 4.08e8])

    assert best.law == "logarithmic"
    assert best.parameters == pytest.approx([2.75e7, 1.40e8], rel=0.05)
    assert best.volume_um3(np.array([1.5]))[0] == pytest.approx(8.72e7, rel=0.035)


def test_fewer_than_three_tomograms_give_no_law():
    assert fit_growth([0, 1, 1.5], [0, 2.75e7, 8.7e7]) == ()
    assert fit_growth([1, 1.5, 2], [1e7, np.nan, 2e7]) == ()


def test_logarithmic_growth_is_preferred_and_its_speed_is_within_the_band():
    volumes = paper_volumes(noise=0.03)

    best = fit_growth(LABELS, volumes, 0.03 * volumes)[0]

    assert best.law == "logarithmic"
    # 3 % noise fixes b to 0.7 % after 29 tomograms when all weigh as their volume.
    assert best.parameters[1] == pytest.approx(PAPER_B, rel=0.03)
    speed, low, high = best.speed_um3(LABELS)
    assert speed == pytest.approx(PAPER_B / LABELS, rel=0.03)
    assert np.all((low < PAPER_B / LABELS) & (PAPER_B / LABELS < high))


def test_the_band_holds_the_truth_as_often_as_it_says():
    inside = 0
    for seed in range(200):
        volumes = paper_volumes(noise=0.03, seed=seed)
        law = [f for f in fit_growth(LABELS, volumes) if f.law == "logarithmic"][0]
        _, low, high = law.speed_um3(np.array([2.0]), confidence=0.9)
        inside += bool(low[0] < PAPER_B / 2 < high[0])
    # 200 trials of probability 0.9: 180 +- 4.2; the weights are not the true ones.
    assert 160 <= inside <= 196


def test_exponential_growth_is_preferred_where_it_saturates():
    volumes = 3e7 + 2e8 * (1 - np.exp(-(LABELS - 1) / 2.5))
    volumes *= 1 + 0.01 * np.random.default_rng(0).standard_normal(len(LABELS))

    best, second = fit_growth(LABELS, volumes)

    assert (best.law, second.law) == ("exponential", "logarithmic")
    assert best.aic < second.aic - 10
    assert best.parameters == pytest.approx([3e7, 2e8, 2.5], rel=0.05)
    speed, low, high = best.speed_um3(np.array([2.0]))
    true_speed = 2e8 / 2.5 * np.exp(-1 / 2.5)
    assert low[0] < true_speed < high[0]
    assert speed[0] == pytest.approx(true_speed, rel=0.05)


def test_the_speed_is_the_derivative_of_the_volume():
    volumes = 3e7 + 2e8 * (1 - np.exp(-(LABELS - 1) / 2.5))
    for fit in fit_growth(LABELS, volumes):
        at = np.array([1.5, 3.0, 8.0])
        step = 1e-5
        slope = (fit.volume_um3(at + step) - fit.volume_um3(at - step)) / (2 * step)
        assert fit.speed_um3(at)[0] == pytest.approx(slope, rel=1e-5)


def test_lists_of_different_length_are_refused():
    with pytest.raises(ValueError, match="one of each"):
        fit_growth([1, 2], [1.0])


def test_compression_mostly_in_the_first_five_cycles():
    labels = [0, *LABELS]
    thickness = [800 - 5 * (1 - np.exp(-n / 2)) - 0.05 * n for n in labels]
    thickness[3] = None

    found = electrode_compression(labels, thickness)

    assert found.total_um == pytest.approx(thickness[0] - thickness[-1])
    assert found.first_cycles_um > 0.8 * found.total_um
    assert found.per_cycle_um == pytest.approx(0.065, abs=0.03)
    assert electrode_compression([0], [800.0]) is None

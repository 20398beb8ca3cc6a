"""Stored current: decay, top-up, dump and recovery against the exponential."""

from math import exp

import pytest

from sim.settings import SourceSettings
from sim.source import StorageRing


def ring(**changes: float) -> StorageRing:
    settings = {"ring_current_ma": 300.0, "lifetime_h": 12.0, "top_up_period_s": 0.0}
    return StorageRing(SourceSettings.model_validate(settings | changes), 1000.0)


def test_the_stored_current_decays_with_its_lifetime() -> None:
    decaying = ring()
    assert decaying.current_ma_at(1000.0) == 300.0
    for hours in (0.5, 6.0, 12.0):
        expected = 300.0 * exp(-hours / 12.0)
        current_ma = decaying.current_ma_at(1000.0 + 3600 * hours)
        assert current_ma == pytest.approx(expected, rel=1e-12)


def test_top_up_fills_the_ring_again_and_again() -> None:
    topped = ring(top_up_period_s=600.0)
    before, after = topped.current_ma_at(1599.9), topped.current_ma_at(1600.1)
    assert before == pytest.approx(300.0 * exp(-599.9 / 43200), rel=1e-12)
    assert after == pytest.approx(300.0, rel=1e-5)
    assert topped.current_ma_at(1000.0 + 50 * 600 + 300) == pytest.approx(
        300.0 * exp(-300 / 43200), rel=1e-9
    )


def test_a_lost_beam_comes_back_full_after_its_recovery() -> None:
    lost = ring(dump_recovery_s=300.0)
    lost.dump(2000.0)
    assert lost.current_ma_at(2000.0) == lost.current_ma_at(2299.0) == 0.0
    assert lost.is_dumped_at(2299.0)
    assert lost.current_ma_at(2400.0) == pytest.approx(300.0 * exp(-100 / 43200))
    # What was lost stays lost for exposures of that time that are drawn later.
    assert lost.current_ma_at(2100.0) == 0.0


def test_filling_by_hand_ends_a_dump() -> None:
    filled = ring(dump_recovery_s=300.0)
    filled.dump(2000.0)
    filled.fill(2050.0)
    assert not filled.is_dumped_at(2050.0)
    assert filled.current_ma_at(2350.0) == pytest.approx(300.0 * exp(-300 / 43200))

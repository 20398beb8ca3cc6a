"""A recorded voltage shown by the virtual cell."""

from pathlib import Path

import numpy as np
import pytest

from orchestrator.rehearsal import read_rehearsal
from sim.cell import VirtualCell
from sim.cell_settings import CellSettings
from sim.recorded_voltage import RecordedVoltageCell


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    lines = ["test_time_second,voltage_volt,current_ampere"]
    for t in range(300):
        current_a = 0.0 if t < 100 else 5e-6 if t < 200 else -5e-6
        voltage_v = 0.0 if t < 100 else 0.05 + 1e-4 * (t - 100)
        lines.append(
            f"{t},{np.sign(current_a) * voltage_v if t >= 100 else 0},{current_a}"
        )
    file = tmp_path / "record.bdf.csv"
    file.write_text("\n".join(lines) + "\n")
    out = tmp_path / "record.npz"
    rehearsal = read_rehearsal(file)
    rehearsal.write(out)
    assert rehearsal.duration_s == pytest.approx(198.0)
    return out


def test_the_record_plays_while_current_is_driven(archive: Path) -> None:
    virtual = VirtualCell(CellSettings(), 1)
    cell = RecordedVoltageCell(virtual, archive)
    cell.advance(1000.0, 0.0, False)
    assert cell.measure_voltage_v(5e-3, True) == pytest.approx(0.05)
    cell.advance(50.0, 5e-3, True)
    assert cell.measure_voltage_v(5e-3, True) == pytest.approx(0.055)
    cell.advance(500.0, 0.0, False)
    # the sign follows the current that flows now
    assert cell.measure_voltage_v(-5e-3, True) == pytest.approx(-0.055)
    assert abs(cell.measure_voltage_v(0.0, False)) < 0.03
    assert virtual.net_charge_c == pytest.approx(5e-3 * 0.05)
    cell.advance(200.0, -5e-3, True)
    assert cell.exhausted


def test_a_record_without_current_is_refused(tmp_path: Path) -> None:
    from analysis.errors import DataError

    file = tmp_path / "rest.csv"
    file.write_text("test_time_second,voltage_volt,current_ampere\n0,1,0\n1,1,0\n")
    with pytest.raises(DataError, match="no current was driven"):
        read_rehearsal(file)

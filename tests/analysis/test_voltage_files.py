"""Voltage files of real instruments, and what is made of them."""

import gzip
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from analysis.errors import DataError
from analysis.voltage_files.bdf import write_bdf
from analysis.voltage_files.reader import read_voltage_file, with_forward_time
from analysis.voltage_files.record import VoltageRecord
from analysis.voltage_files.steps import (
    cumulative_charge_c,
    find_steps,
    lithium_volume_um3,
)

DATA = Path(__file__).parents[3] / "shared" / "data" / "potentiostat"
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="no ../shared/data/potentiostat beside the project"
)


def record(time_s: np.ndarray, current_ma: np.ndarray) -> VoltageRecord:
    return VoltageRecord(time_s, 0.1 * np.sign(current_ma), current_ma)


@needs_data
@pytest.mark.parametrize(
    ("name", "rows", "first", "last"),
    [
        # time, voltage and current of the first and last row as the file prints them
        (
            "gamry/Activacion_Asc_2x_#1_#1.DTA",
            251,
            (0, 1.79106, 9966.11),
            (250, 1.92651, 10966.6),
        ),
        ("gamry/OCP_1.DTA", 545, (0.11, -5.63428e-3, 0), (59.95, -5.22146e-3, 0)),
        (
            "gamry-parser-tests/chronoa_de_data.dta",
            10,
            (0, -5e-4, -2e-5),
            (270, 0.4, 3e-06),
        ),
    ],
)
def test_gamry_tables_are_read_as_printed(
    name: str,
    rows: int,
    first: tuple[float, float, float],
    last: tuple[float, float, float],
) -> None:
    read = read_voltage_file(DATA / name)
    assert len(read) == rows
    for place, wanted in ((0, first), (-1, last)):
        found = (read.time_s[place], read.voltage_v[place], read.current_ma[place])
        assert found == pytest.approx(wanted, rel=1e-9)


@needs_data
@pytest.mark.parametrize("path", sorted(DATA.glob("gamry*/*")), ids=lambda p: p.name)
def test_every_gamry_file_gives_rows_or_a_clear_error(path: Path) -> None:
    if "incompleteheader" in path.name:
        with pytest.raises(DataError, match="without a voltage over time"):
            read_voltage_file(path)
        return
    read = read_voltage_file(path)
    assert len(read) >= 5
    assert np.isfinite(read.voltage_v).all()
    assert np.isfinite(read.current_ma).all()
    assert (np.diff(read.time_s) >= 0).all()
    if "abort" in path.name.lower():
        assert any("aborted" in note for note in read.notes)


@needs_data
def test_a_declared_row_count_that_is_wrong_is_noted() -> None:
    read = read_voltage_file(DATA / "gamry-parser-tests" / "ocp_data.dta")
    assert "table CURVE declares 99999 rows and has 21" in read.notes


@needs_data
def test_a_two_step_file_has_two_steps_of_the_asked_currents() -> None:
    read = read_voltage_file(DATA / "gamry" / "Activacion_Asc_2x_#1_#1.DTA")
    first, second = find_steps(read)
    assert first.current_ma == pytest.approx(10e3, rel=0.005)
    assert second.current_ma == pytest.approx(11e3, rel=0.005)
    # 10 A and 11 A for 125 s each, sampled each second
    total_c = cumulative_charge_c(read)[-1]
    assert total_c == pytest.approx(10 * 125 + 11 * 125, rel=0.005)


@needs_data
def test_a_step_held_at_zero_is_a_rest() -> None:
    read = read_voltage_file(DATA / "gamry" / "Chronopot_0A.DTA")
    assert [step.current_ma for step in find_steps(read)] == [0.0]


@needs_data
def test_eclab_pulses_are_cut_at_each_reversal() -> None:
    read = read_voltage_file(DATA / "ssb-biologic" / "CP_SSB.txt.gz")
    assert len(read) == 30208
    driven = [step for step in find_steps(read) if abs(step.current_ma) > 0.008]
    assert [math.copysign(1, step.current_ma) for step in driven][:6] == [
        1,
        -1,
        1,
        -1,
        1,
        -1,
    ]
    for step in driven:
        assert abs(step.current_ma) == pytest.approx(8.4e-3, rel=0.01)


@needs_data
def test_a_binary_export_says_what_to_do() -> None:
    with pytest.raises(DataError, match="export it as text"):
        read_voltage_file(DATA / "ssb-biologic" / "CP_SSB.mpr")


@needs_data
def test_rows_out_of_order_pass_no_charge() -> None:
    (path,) = (DATA / "bdf").glob("*Time_Bug*")
    read = read_voltage_file(path)
    assert (np.diff(read.time_s) >= 0).all()
    assert any("out of order" in note for note in read.notes)
    # the longest step: 655 mA for 40085 s, by the file's own row times
    largest_c = max(abs(step.charge_c) for step in find_steps(read))
    assert largest_c == pytest.approx(0.6545 * 40085, rel=0.01)


def test_a_clock_that_starts_anew_goes_on() -> None:
    time_s = np.concatenate((np.arange(10.0), np.arange(10.0)))
    forward = with_forward_time(record(time_s, np.ones(20)))
    assert forward.time_s[-1] == pytest.approx(18.0)
    assert cumulative_charge_c(forward)[-1] == pytest.approx(18e-3)


def test_charge_of_a_known_current() -> None:
    time_s = np.arange(0.0, 1800.1, 0.1)
    read = record(time_s, np.full(len(time_s), 4.712389e-3))
    # 0.15 mA/cm2 on 2 mm for 30 min: 8.482 mC, 1.1425e6 um3 (EXPERIMENT)
    charge_c = cumulative_charge_c(read)[-1]
    assert charge_c == pytest.approx(8.482e-3, rel=1e-4)
    assert lithium_volume_um3(charge_c) == pytest.approx(1.1425e6, rel=1e-4)


def test_steps_of_a_cycled_cell() -> None:
    time_s = np.arange(0.0, 100.0)
    current_ma = np.select(
        [time_s < 20, time_s < 40, time_s < 60], [0.0, 1.0, -1.0], 0.0
    )
    steps = find_steps(record(time_s, current_ma))
    assert [step.current_ma for step in steps] == [0.0, 1.0, -1.0, 0.0]
    assert [step.galvanostatic for step in steps] == [False, True, True, False]


def test_the_resistance_at_an_interruption() -> None:
    time_s = np.arange(0.0, 40.0, 0.1)
    current_ma = np.where(time_s < 20, -5e-3, 0.0)
    # 20 kohm in series, and an overpotential of 10 mV that stays
    voltage_v = current_ma * 1e-3 * 20e3 - 0.01
    driven, rest = find_steps(VoltageRecord(time_s, voltage_v, current_ma))
    assert driven.interrupt_resistance_ohm == pytest.approx(20e3)
    assert rest.interrupt_resistance_ohm is None


def test_bdf_is_written_as_the_format_wants_it(tmp_path: Path) -> None:
    time_s = 1.8e9 + np.arange(0.0, 60.0, 0.1)
    written = VoltageRecord(
        time_s,
        np.linspace(0.05, 0.08, 600),
        np.full(600, 4.712e-3),
        step_id=np.full(600, 7),
        cycle_count=np.full(600, 4),
    )
    path = tmp_path / "half_cycle_07.bdf.csv"
    write_bdf(path, written)
    command = [str(Path(sys.executable).with_name("bdf")), "validate", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert "validation passed" in done.stdout
    assert "Non-monotonic" not in done.stdout
    read = read_voltage_file(path)
    np.testing.assert_allclose(read.time_s, time_s - time_s[0], atol=1e-6)
    np.testing.assert_allclose(read.voltage_v, written.voltage_v, rtol=1e-8)
    np.testing.assert_allclose(read.current_ma, written.current_ma, rtol=1e-8)
    assert list(tmp_path.iterdir()) == [path]


def test_bdf_labels_with_other_units_are_converted(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("Test Time / h,Voltage / mV,Current / mA\n0,50,1\n0.5,60,1\n")
    read = read_voltage_file(path)
    assert read.time_s[-1] == pytest.approx(1800)
    assert read.voltage_v[0] == pytest.approx(0.05)
    assert read.current_ma[0] == pytest.approx(1.0)


def eclab(columns: str, rows: str, *settings: tuple[str, ...]) -> bytes:
    """Return an EC-Lab export with a table of settings, 20 characters a field."""
    header = ["", "Chronopotentiometry", ""]
    header += ["".join(f"{field:20s}" for field in line) for line in settings]
    count = len(header) + 3
    text = "\r\n".join(
        ["EC-Lab ASCII FILE", f"Nb header lines : {count}", *header, columns, rows]
    )
    return text.encode("latin-1")


SET = (("Ns", "0", "1"), ("Is", "0.000", "-8,400"), ("unit Is", "mA", "\u00b5A"))


def test_eclab_says_which_current_was_set(tmp_path: Path) -> None:
    path = tmp_path / "cp.mpt"
    path.write_bytes(
        eclab("time/s\tEwe/V\tI/mA\tNs", "0\t0\t1e-5\t0\n1\t-1\t-8.3e-3\t1\n", *SET)
    )
    read = read_voltage_file(path)
    assert read.asked_ma is not None
    assert read.asked_ma.tolist() == pytest.approx([0.0, -8.4e-3])
    assert read.current_ma.tolist() == [1e-5, -8.3e-3]
    assert [step.current_ma for step in find_steps(read)][0] == 0.0


def test_eclab_without_a_current_takes_what_was_set(tmp_path: Path) -> None:
    path = tmp_path / "cp.mpt"
    path.write_bytes(eclab("time/s\tEwe/V\tNs", "0\t0\t0\n1\t-1\t1\n", *SET))
    read = read_voltage_file(path)
    assert read.has_current
    assert read.current_ma.tolist() == pytest.approx([0.0, -8.4e-3])
    assert "as the header sets it" in read.notes[0]


@pytest.mark.parametrize("unit", ["", "furlong"])
def test_eclab_with_a_setting_nobody_knows_asks_for_nothing(
    tmp_path: Path, unit: str
) -> None:
    path = tmp_path / "cp.mpt"
    unknown = (*SET[:2], ("unit Is", "mA", unit))
    path.write_bytes(eclab("time/s\tEwe/V\tNs", "0\t0\t0\n1\t-1\t1\n", *unknown))
    read = read_voltage_file(path)
    assert read.asked_ma is None
    assert not read.has_current


def test_eclab_with_decimal_commas_and_gzip(tmp_path: Path) -> None:
    path = tmp_path / "cp.mpt"
    text = (
        "EC-Lab ASCII FILE\r\nNb header lines : 4\r\nChronopotentiometry\r\n"
        "time/s\tEwe/V\t<I>/mA\tNs\r\n0,0\t0,05\t1,5\t0\r\n1,0\t0,06\t1,5\t0\r\n"
    )
    path.write_bytes(gzip.compress(text.encode("latin-1")))
    read = read_voltage_file(path)
    assert read.voltage_v.tolist() == [0.05, 0.06]
    assert read.current_ma.tolist() == [1.5, 1.5]
    assert read.control == "galvanostatic"


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "no known kind"),
        ("hello\n", "no known kind"),
        ("test_time_second,voltage_volt\n0,1\n", "current_ampere"),
        ("test_time_second,voltage_volt,current_ampere\n", "no row"),
        ("test_time_second,voltage_volt,current_ampere\n0,x,1\n", "no number"),
        ("EXPLAIN\nTAG\tCHRONOP\n", "without a voltage over time"),
        ("EC-Lab ASCII FILE\nnothing\n", "Nb header lines"),
        ("EC-Lab ASCII FILE\nNb header lines : 99\nx\n", "cut short"),
    ],
)
def test_a_broken_file_is_refused_in_one_line(
    tmp_path: Path, text: str, match: str
) -> None:
    path = tmp_path / "broken"
    path.write_text(text)
    with pytest.raises(DataError, match=match) as caught:
        read_voltage_file(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_voltage_file(tmp_path / "none.dta")

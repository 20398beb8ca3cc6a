"""`insitu-ct voltage` on real and made files."""

import argparse
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.errors import DataError
from analysis.voltage_files.bdf import write_bdf
from analysis.voltage_files.record import VoltageRecord
from orchestrator import voltage_command

DATA = Path(__file__).parents[3] / "shared" / "data" / "potentiostat"
needs_data = pytest.mark.skipif(
    not DATA.is_dir(), reason="no ../shared/data/potentiostat beside the project"
)
CURRENT_MA = 4.712e-3


def call(*arguments: object) -> int:
    parser = argparse.ArgumentParser()
    voltage_command.add_parser(parser.add_subparsers())
    args = parser.parse_args(["voltage", *map(str, arguments)])
    return args.run(args)


def as_json(capsys: Any, *arguments: object) -> dict[str, Any]:
    assert call(*arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def half_cycle(path: Path, *, onset_s: float = 1e9, sign: int = 1) -> Path:
    """Write a half-cycle of the paper's cell, rest before and after."""
    rng = np.random.default_rng(0)
    time_s = np.arange(0.0, 700.0, 0.1)
    driven = (time_s >= 20) & (time_s < 620)
    since_s = time_s - 20
    voltage_v = 0.12 * (1 - 0.4 * np.exp(-since_s / 25)) * driven
    voltage_v[time_s >= onset_s] = 0.0
    voltage_v = sign * voltage_v + rng.normal(0, 1e-4, len(time_s))
    current_ma = sign * CURRENT_MA * driven
    write_bdf(path, VoltageRecord(time_s, voltage_v, current_ma))
    return path


def test_a_healthy_half_cycle(tmp_path: Path, capsys: Any) -> None:
    result = as_json(capsys, half_cycle(tmp_path / "healthy.bdf.csv"))
    assert result["rows"] == 7000
    assert len(result["steps"]) == 3
    assert result["charge_c"] == pytest.approx(CURRENT_MA * 0.6, rel=1e-3)
    assert result["lithium_um3"] == pytest.approx(
        CURRENT_MA * 0.6 * 6.94 / (96485.33 * 0.534) * 1e12, rel=1e-3
    )
    assert result["alarms"] == []


@pytest.mark.parametrize("sign", [1, -1])
def test_a_hard_short_has_its_time_and_evidence(
    tmp_path: Path, capsys: Any, sign: int
) -> None:
    path = half_cycle(tmp_path / "short.bdf.csv", onset_s=400.0, sign=sign)
    (alarm,) = as_json(capsys, path)["alarms"]
    assert alarm["kind"] == "hard_short"
    assert alarm["start_s"] == pytest.approx(400.0, abs=0.1)
    assert alarm["end_s"] == pytest.approx(620.0, abs=0.2)
    assert alarm["evidence"]["samples"]
    assert "mV" in alarm["evidence"]["rule"]


def test_a_lead_that_falls_off_in_a_file(tmp_path: Path, capsys: Any) -> None:
    time_s = np.arange(0.0, 300.0, 0.1)
    lost = time_s >= 150
    path = tmp_path / "lost.csv"
    write_bdf(
        path,
        VoltageRecord(
            time_s, np.where(lost, 5.0, 0.1), np.where(lost, 0.0, CURRENT_MA)
        ),
    )
    (alarm,) = as_json(capsys, path)["alarms"]
    assert alarm["kind"] == "open_circuit"
    assert alarm["start_s"] == pytest.approx(150.0, abs=0.2)


def test_a_file_without_current_takes_the_one_given(
    tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "v.mpt"
    rows = "".join(f"{t}\t0.1\r\n" for t in range(1801))
    path.write_text(
        "EC-Lab ASCII FILE\nNb header lines : 4\nChronopotentiometry\n"
        f"time/s\tEwe/V\r\n{rows}",
        newline="",
    )
    assert as_json(capsys, path)["charge_c"] is None
    given = as_json(capsys, path, "--current-ma", 4.712)
    assert given["charge_c"] == pytest.approx(4.712e-3 * 1800)


@needs_data
def test_the_real_cell_with_reversals_raises_nothing(capsys: Any) -> None:
    result = as_json(capsys, DATA / "ssb-biologic" / "CP_SSB.txt.gz")
    assert result["rows"] == 30208
    assert result["alarms"] == []


@needs_data
@pytest.mark.parametrize(
    "path", sorted(DATA.glob("gamry/*.DTA")), ids=lambda path: path.name
)
def test_real_gamry_files_raise_nothing(path: Path, capsys: Any) -> None:
    assert as_json(capsys, path)["alarms"] == []


@needs_data
def test_a_conversion_keeps_the_numbers(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out.bdf.csv"
    assert call(DATA / "gamry" / "Est_EIS_9A.DTA", "--to", "bdf", out) == 0
    assert "written" in capsys.readouterr().out
    before = as_json(capsys, DATA / "gamry" / "Est_EIS_9A.DTA")
    after = as_json(capsys, out)
    assert after["charge_c"] == pytest.approx(before["charge_c"], rel=1e-6)


def test_options_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    path = half_cycle(tmp_path / "healthy.bdf.csv")
    with pytest.raises(DataError, match="--to bdf OUT"):
        call(path, "--to", "xls", tmp_path / "out.xls")
    with pytest.raises(DataError, match="other than 0"):
        call(path, "--current-ma", 0)


@needs_data
def test_mutated_files_give_rows_or_one_clear_line(tmp_path: Path, capsys: Any) -> None:
    rng = random.Random(1)
    files = [path for path in DATA.glob("gamry*/*") if path.stat().st_size < 60_000]
    file = tmp_path / "mutated"
    for _ in range(200):
        data = bytearray(rng.choice(files).read_bytes())
        for _ in range(rng.choice([1, 5, 30])):
            place = rng.randrange(len(data))
            mutation = rng.randrange(4)
            if mutation == 0:
                data[place] = rng.randrange(256)
            elif mutation == 1:
                del data[place : place + rng.randrange(1, 200)]
            elif mutation == 2:
                data[place:place] = data[place : place + rng.randrange(1, 200)]
            else:
                swap = rng.choice([b"nan", b"inf", b"1e999", b"-", b"\t", b"x"])
                data = data.replace(rng.choice([b"\t", b",", b"0", b"E"]), swap, 9)
            data = data or bytearray(b"x")
        file.write_bytes(data)
        try:
            call(file, "--json")
        except DataError as error:
            assert "\n" not in str(error)
        else:
            json.loads(capsys.readouterr().out)

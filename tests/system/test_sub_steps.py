"""Half-cycles in parts, a voltage event and rules, through kills: each charge once."""

import json
import threading
import time

import pytest

from orchestrator.results import read_rows

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(400)]

PARTS = (0.25, 0.75)
SETTLED_S = 7.0  # simulated: the guard judges partial losses 5 s after a start
LABEL_ABS = 2e-3  # of a half-cycle: labels have four digits


@pytest.fixture
def bench(tmp_path, new_bench):
    bench = new_bench(tmp_path)
    bench.experiment = json.loads(json.dumps(bench.experiment))  # the bench's own
    yield bench
    bench.close()


def whole_half_cycle(bench):
    """Return a rule that holds once one half-cycle has passed."""
    return {
        "quantity": "gross_charge_c",
        "is": "above",
        "threshold": 0.9 * bench.half_cycle_c,
    }


def wait_until(bench, condition, timeout_s=90.0):
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert bench.program.poll() is None, f"ended too soon:\n{bench.story()}"
        assert time.monotonic() < deadline_s, f"not reached:\n{bench.story()}"
        threading.Event().wait(0.02)


def begun(bench, label, what):
    return any(
        entry.kind == "begin"
        and entry.details["label"] == label
        and what in entry.details
        for entry in bench.entries()
    )


def driven_s(bench):
    """Return how long the running step has been driven, simulated."""
    closed = bench.relay != b"Open"
    elapsed = bench.beamline.pvs.potentiostat + "Elapsed_RBV"
    return float(bench.get(elapsed)) if closed else 0.0


def whole_tomograms(bench):
    """Return the start document of each tomogram that closed as success."""
    return [
        start
        for start, stop in bench.runs()
        if start["plan_name"] == "tomogram"
        and stop is not None
        and stop["exit_status"] == "success"
    ]


def check_charges(bench, half_cycles):
    """Every charge passed once; each label says how much had passed before."""
    asked_c = half_cycles * bench.half_cycle_c
    assert bench.gross_charge_c == pytest.approx(asked_c, rel=1e-3), bench.story()
    scans = whole_tomograms(bench)
    numbers = [start["scan_number"] for start in scans]
    assert len(numbers) == len(set(numbers)), "a tomogram was taken twice"
    for start in scans:
        passed = max(2 * float(start["label"]) - 1, 0.0)
        assert start["gross_charge_c"] / bench.half_cycle_c == pytest.approx(
            passed, abs=LABEL_ABS
        ), f"label {start['label']}"
    return [start["label"] for start in scans]


def test_parts_an_event_and_a_rule_pass_each_charge_once_through_kills(bench):
    bench.experiment["cycling"]["sub_steps"] = {"1": PARTS}
    bench.experiment["cycling"]["num_half_cycles"] = 3
    bench.experiment["guard"]["soft_short"] = "tomogram"
    bench.experiment["rules"] = [
        {**whole_half_cycle(bench), "decide": "scan more often", "parts": 2}
    ]
    bench.start()

    # the voltage drops in the second part: a tomogram, then the rest
    wait_until(bench, lambda: begun(bench, "1", "half_cycle"))
    wait_until(bench, lambda: driven_s(bench) > SETTLED_S)
    bench.fault("soft_short")
    wait_until(bench, lambda: "extra scan" in bench.said())
    bench.kill()  # the scan that the event asked for is owed
    bench.resume()
    wait_until(bench, lambda: "goes on with" in bench.said() or bench.relay != b"Open")
    bench.fault("soft_short", on=False)

    # a rule cuts what begins from then on, also in the session that comes after
    wait_until(bench, lambda: "scan more often, " in bench.said(), 150.0)
    bench.kill()
    bench.resume()
    wait_until(bench, lambda: begun(bench, "1.75", "scan_number"), 150.0)
    bench.kill()  # within the scan between two parts
    bench.resume()
    assert bench.wait_for_end(150.0) == 0, bench.story()

    labels = check_charges(bench, half_cycles=3)
    (event,) = [x for x in labels if 0.625 < float(x) < 1]
    expected = ["0", "0.625", event, "1"]
    assert labels[:4] == expected
    # half-cycle 2 may have begun before the first tomogram of 1 was measured
    assert labels[4:] in (["1.5", "1.75", "2"], ["1.25", "1.5", "1.75", "2"])
    assert "done: all" in (bench.directory / "output.txt").read_text()
    # what ended as planned in this session says what the cell's resistance was
    rows = read_rows(bench.layout.results_dir / "measurements.csv")
    known = {row["label"]: row["interrupt_resistance_ohm"] for row in rows}
    assert known["0"] is None
    assert known["2"] > 0


def test_a_rule_ends_the_experiment_as_done_and_resume_respects_it(bench):
    bench.experiment["cycling"]["num_half_cycles"] = 4
    bench.experiment["rules"] = [whole_half_cycle(bench)]
    bench.start()
    assert bench.wait_for_end(150.0) == 0, bench.story()

    output = (bench.directory / "output.txt").read_text()
    assert "done by rule: stopped after scan" in output
    assert "gross_charge_c above" in output
    ended = bench.entries()[-1]
    assert (ended.kind, ended.details["outcome"]) == ("ended", "done_by_rule")
    passed_c = bench.gross_charge_c
    labels = check_charges(bench, half_cycles=round(passed_c / bench.half_cycle_c))
    assert labels in (["0", "1", "1.5"], ["0", "1"]), "it acts a half-cycle later"

    bench.resume()
    assert bench.wait_for_end(60.0) == 0, bench.story()
    assert "to go on all the same, change the rule" in bench.entries()[-1].text
    assert bench.gross_charge_c == passed_c

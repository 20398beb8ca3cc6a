"""The operator's screen and the state behind it."""

import io
import math

import pytest
from rich.console import Console

from analysis.messages import AnalysisFailed, TomogramMeasured, WorkerReady
from orchestrator.screen import Screen, draw, progress_line, sparkline
from orchestrator.snapshot import NOT_CONNECTED
from orchestrator.state import ExperimentState
from plans.schedule import schedule
from plans.settings import CyclingSettings


class Clock:
    def __init__(self):
        self.now_s = 1_000_000.0

    def __call__(self):
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def steps():
    cycling = CyclingSettings(
        current_density_ma_cm2=0.15, half_cycle_duration_s=1800.0, num_half_cycles=3
    )
    return schedule(cycling, 0.0314)


@pytest.fixture
def state(clock, steps):
    state = ExperimentState("cell-07", simulated=True, clock=clock)
    state.planned(steps, [600.0 if i % 2 == 0 else 1800.0 for i in range(len(steps))])
    return state


def rendered(state, width=120, height=40):
    console = Console(file=io.StringIO(), width=width, height=height, highlight=False)
    console.print(draw(state.snapshot(), width, height))
    return console.file.getvalue()


def half_cycle_documents(state, voltages_v, duration_s=1800.0):
    state.document(
        "start",
        {
            "uid": "r",
            "plan_name": "half_cycle",
            "duration_s": duration_s,
            "gross_charge_c": 0.00848,
            "simulated": True,
        },
    )
    state.document("descriptor", {"uid": "d", "name": "electrochemistry"})
    for second, voltage_v in enumerate(voltages_v):
        state.document(
            "event",
            {
                "descriptor": "d",
                "data": {
                    "potentiostat_time_s": 50.0 + second,
                    "potentiostat_voltage_v": voltage_v,
                    "potentiostat_current_ma": 0.004712,
                    "potentiostat_relay_closed": 1,
                },
            },
        )


def test_half_cycle_is_shown_with_progress_voltage_and_relay(state, steps):
    state.begin(steps[1], 0)
    half_cycle_documents(state, [0.1 + 0.001 * i for i in range(901)])
    snapshot = state.snapshot()
    assert snapshot.progress is not None
    assert snapshot.progress.fraction == pytest.approx(900 / 1800)
    text = rendered(state)
    assert "half-cycle 1 (charge 1)" in text
    assert "Step 2 of 7" in text
    assert "50 %" in text
    assert "+1.0000 V" in text
    assert "+4.712 µA" in text
    assert "Closed (cell driven)" in text
    assert "8.48 mC" in text


def test_scan_counts_frames_of_its_own_streams(state, steps):
    state.begin(steps[0], 0)
    state.document(
        "start",
        {
            "plan_name": "tomogram",
            "nominal_angles_deg": [0.0, 0.5, 360],
            "scan": {"num_flats": 20, "num_darks": 20},
        },
    )
    state.document("descriptor", {"uid": "f", "name": "flats"})
    state.document("stream_datum", {"descriptor": "f", "indices": {"stop": 20}})
    assert state.snapshot().phase == "flats"
    assert state.snapshot().progress.fraction == 1.0
    state.document("descriptor", {"uid": "p", "name": "projections"})
    assert state.snapshot().progress.fraction == 0.0
    state.document("stream_datum", {"descriptor": "p", "indices": {"stop": 90}})
    assert state.snapshot().progress.fraction == pytest.approx(0.25)
    assert "90 / 360 frames" in rendered(state)
    state.document("stop", {"exit_status": "success"})
    assert state.snapshot().progress is None


def test_remaining_time_learns_the_clock_factor_from_steps_done(state, steps, clock):
    before_s = state.snapshot().experiment_remaining_s
    assert before_s == pytest.approx(4 * 600 + 3 * 1800)
    for step, wall_s in zip(steps[:2], (60.0, 90.0), strict=True):
        state.begin(step, 0)
        clock.now_s += wall_s
        state.done(step, 0, {})
    # scans run 10 times faster than planned, half-cycles 20 times
    assert state.snapshot().experiment_remaining_s == pytest.approx(3 * 60 + 2 * 90)
    state.begin(steps[2], 0)
    clock.now_s += 20
    assert state.snapshot().step_remaining_s == pytest.approx(40.0)
    clock.now_s += 100  # late: never negative
    assert state.snapshot().step_remaining_s == 0.0


def test_simulated_mark_is_there_only_when_simulated(state):
    assert "SIMULATED BEAMLINE" in rendered(state)
    real = ExperimentState("cell-07", simulated=False)
    assert "SIMULATED" not in rendered(real)
    real.document("start", {"plan_name": "tomogram", "simulated": True})
    assert "SIMULATED" in rendered(real)


def test_alarm_stays_after_many_log_lines(state):
    state.alarm("cell voltage 0.001 V: short circuit, relay opened")
    for number in range(500):
        state.notice(f"line {number}")
    text = rendered(state)
    assert "short circuit, relay opened" in text
    assert "line 499" in text
    assert len(state.snapshot().entries) <= 200


def test_a_question_is_shown_until_it_is_answered(state):
    state.ask("Ctrl-C: press t, s or g")
    assert rendered(state).count("press t, s or g") == 2  # on top, and in the log
    state.ask("")
    for number in range(40):
        state.decide(f"decision {number}")
    assert "press t, s or g" not in rendered(state)


def test_measured_and_failed_tomograms_are_counted_and_explained(state):
    state.message(WorkerReady(3.2))
    state.document(
        "start",
        {"plan_name": "tomogram", "scan_number": 1, "attempt": 0, "label": "1"},
    )
    row = {
        "crack_volume_um3": 27543.0,
        "crack_volume_sd_um3": 310.0,
        "filling_fraction": 0.0415,
        "reason": None,
    }
    state.message(TomogramMeasured("scan_0001_00", row, None))
    state.message(AnalysisFailed("scan_0002_00", "reconstruct", "no flats"))
    text = rendered(state)
    assert "2.754e+04 ± 3e+02 µm³" in text
    assert "4.15 %" in text
    assert "Last measured · label 1" in text
    assert "1 measured · 1 failed" in text
    assert "scan_0002_00: reconstruct failed: no flats" in text


def test_unmeasured_tomogram_says_why(state):
    state.message(
        TomogramMeasured(
            "scan_0001_00",
            {
                "label": "1",
                "crack_volume_um3": None,
                "reason": "pellet out of view",
            },
            None,
        )
    )
    assert "pellet out of view" in rendered(state)


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("start", {}),
        ("event", {"data": {"potentiostat_voltage_v": "nonsense"}}),
        ("event", {"descriptor": "unknown"}),
        ("descriptor", {}),
        ("stream_datum", {"indices": None}),
        ("resource", {"spec": "AD_HDF5"}),
        ("stop", {}),
    ],
)
def test_odd_documents_never_raise(state, name, document):
    state.document("start", {"plan_name": "half_cycle", "duration_s": None})
    state.document("descriptor", {"uid": None, "name": "electrochemistry"})
    state.document(name, document)
    rendered(state)


@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_no_line_is_wider_than_the_terminal(state, steps, width):
    state.begin(steps[1], 2)
    state.alarm("ring current 0.0 mA: " + "the beam is lost " * 20)
    half_cycle_documents(state, [0.1, 0.2])
    lines = rendered(state, width=width).splitlines()
    assert max(len(line) for line in lines) <= width


def test_end_is_shown_with_its_reason(state):
    state.finished("short_circuit", "voltage 0.0008 V in charge 4")
    text = rendered(state)
    assert "short circuit · voltage 0.0008 V in charge 4" in text


def test_user_text_is_not_markup(state):
    state.notice("[red]file[/red] [/] odd [name SIM:ZEBRA:PC_ARM")
    assert "[red]file[/red] [/] odd [name SIM:ZEBRA:PC_ARM" in rendered(state)


def test_plain_lines_where_there_is_no_terminal(state, steps):
    out = io.StringIO()
    with Screen(state, Console(file=out, force_terminal=False, width=200)):
        state.begin(steps[0], 0)
        state.alarm("SIM:ZEBRA:PC_ARM [red]does[/red] not answer")
        state.done(steps[0], 0, {})
    lines = out.getvalue().splitlines()
    assert "SIMULATED BEAMLINE" in lines[0]
    assert "tomogram of the pristine cell begins" in lines[1]
    assert "ALARM: SIM:ZEBRA:PC_ARM [red]does[/red] not answer" in lines[2]
    assert "tomogram of the pristine cell done" in lines[3]


def test_progress_line_names_step_phase_and_time_left(state, steps, clock):
    state.begin(steps[1], 0)
    half_cycle_documents(state, [0.1] * 451)
    line = progress_line(state.snapshot())
    assert "step 2 of 7, half-cycle 25 %" in line
    assert "left" in line


def test_pause_gives_the_terminal_back(state):
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, height=40)
    with Screen(state, console) as screen, screen.paused() as plain:
        plain.print("stop after this tomogram? [y/n]", markup=False)
    shown = out.getvalue()
    question = shown.index("stop after this tomogram?")
    assert shown.rindex("\x1b[?1049l", 0, question) >= 0  # left the drawing


def test_sparkline_spans_the_range():
    assert sparkline([0.0, 0.5, 1.0], 10) == "▁▅█"
    assert len(set(sparkline([0.2, 0.2], 10))) == 1
    assert set(sparkline([0.2, 0.2004], 10, 0.02)) <= {"▄", "▅"}
    assert sparkline([], 10) == ""
    assert len(sparkline(list(range(100)), 10)) == 10


def test_shutter_is_not_guessed_once_a_scan_may_have_moved_it(state):
    state.document("start", {"plan_name": "tomogram"})
    state.document("descriptor", {"uid": "b", "name": "baseline"})
    baseline = {"shutter_state": "Closed", "potentiostat_relay_readback": "Open"}
    state.document("event", {"descriptor": "b", "data": baseline})
    assert state.snapshot().readings["shutter"] == "Closed"
    state.document("descriptor", {"uid": "f", "name": "flats"})
    assert "shutter" not in state.snapshot().readings
    assert state.snapshot().readings["relay"] == "Open"


def test_monitor_wins_over_documents_and_a_lost_one_is_shown(state, steps):
    state.reading("relay", "Open")
    half_cycle_documents(state, [0.1])
    assert state.snapshot().readings["relay"] == "Open"
    state.reading("relay", NOT_CONNECTED)
    assert "not connected" in rendered(state)
    state.reading("voltage_v", 0.25)
    state.reading("voltage_v", math.nan)
    assert state.snapshot().readings["voltage_v"] == 0.25


class LostTerminal(io.StringIO):
    def __init__(self):
        super().__init__()
        self.lost = False

    def write(self, text):
        if self.lost:
            raise OSError(5, "Input/output error")
        return super().write(text)


@pytest.mark.parametrize("terminal", [True, False])
def test_lost_terminal_does_not_end_the_experiment(state, terminal, caplog):
    out = LostTerminal()
    console = Console(file=out, force_terminal=terminal, width=100, height=40)
    with Screen(state, console):
        out.lost = True
        state.notice("nobody sees this")
    assert "the terminal cannot be written" in caplog.text


def test_fault_in_the_drawing_is_told_and_passed_over(state, monkeypatch, caplog):
    monkeypatch.setattr("orchestrator.screen._headline", lambda snapshot: 1 / 0)
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100, height=40)
    with Screen(state, console):
        pass
    assert "ZeroDivisionError" in out.getvalue()
    assert "could not be drawn" in caplog.text

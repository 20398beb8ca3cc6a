"""The screen from another terminal, from files alone."""

import io
import os
import platform

import pytest
from rich.console import Console

from orchestrator import watch
from orchestrator.errors import ConfigurationError
from orchestrator.journal import Journal
from orchestrator.layout import Layout
from orchestrator.record import DocumentRecord
from orchestrator.results import ResultsTable
from orchestrator.watch import Follower
from plans.steps import HalfCycleStep, TomogramStep

PRISTINE = TomogramStep(index=0, scan_number=0, label="0")
CHARGE = HalfCycleStep(
    index=1, half_cycle=1, label="1", current_ma=0.004712, duration_s=1800.0
)


class Writer:
    """The files of a running experiment, written as the orchestrator does."""

    def __init__(self, directory):
        self.layout = Layout(directory)
        self.layout.create()
        self.journal = Journal(self.layout.journal_file)
        self.record = DocumentRecord(self.layout.documents_file)
        self.results = ResultsTable(self.layout.results_dir)

    def session(self, **details):
        self.journal.add(
            "session",
            "3 steps, SIMULATED",
            details={"experiment_id": "cell-07", "simulated": True} | details,
        )

    def begin_half_cycle(self):
        self.journal.begin(CHARGE, 0)
        start = {"uid": "r", "plan_name": "half_cycle", "duration_s": 1800.0}
        self.record("start", start)
        descriptor = {"uid": "d", "run_start": "r", "name": "electrochemistry"}
        self.record("descriptor", descriptor)

    def sample(self, time_s, voltage_v):
        data = {"potentiostat_time_s": time_s, "potentiostat_voltage_v": voltage_v}
        self.record("event", {"descriptor": "d", "data": data})


@pytest.fixture
def writer(tmp_path):
    writer = Writer(tmp_path / "cell")
    yield writer
    writer.journal.close()
    writer.record.close()


def follow(writer, running=True):
    return Follower(writer.layout.directory, is_running=lambda session: running)


def test_follows_steps_samples_and_results_as_they_come(writer):
    writer.session()
    writer.journal.begin(PRISTINE, 0)
    follower = follow(writer)
    follower.update()
    snapshot = follower.state.snapshot()
    assert snapshot.experiment_id == "cell-07"
    assert snapshot.simulated
    assert snapshot.step == PRISTINE

    writer.journal.done(PRISTINE, 0, {})
    follower.update()
    assert follower.state.snapshot().analysis.waiting == 1
    writer.begin_half_cycle()
    writer.sample(100.0, 0.11)
    writer.sample(1000.0, 0.12)
    follower.update()
    snapshot = follower.state.snapshot()
    assert snapshot.step == CHARGE
    assert snapshot.progress.fraction == pytest.approx(0.5)
    assert snapshot.voltages_v == (0.11, 0.12)

    row = {"scan_number": 0, "label": "0", "attempt": 0, "crack_volume_um3": 12.5}
    writer.results.add(row)
    writer.journal.add("measured", "scan_0000_00", details={"row": row})
    follower.update()
    snapshot = follower.state.snapshot()
    assert snapshot.analysis.waiting == 0
    assert snapshot.analysis.measured == 1
    assert snapshot.row["crack_volume_um3"] == 12.5
    assert not follower.over


def test_documents_are_read_once_and_a_torn_line_waits(writer):
    writer.session()
    writer.begin_half_cycle()
    writer.sample(1.0, 0.10)
    line = b'["event", {"descriptor": "d", "data": {"potentiostat_voltage_v": 0.2}}]\n'
    with open(writer.layout.documents_file, "ab") as file:
        file.write(line[:30])
    follower = follow(writer)
    follower.update()
    follower.update()
    assert follower.state.snapshot().voltages_v == (0.10,)
    with open(writer.layout.documents_file, "ab") as file:
        file.write(line[30:])
    follower.update()
    assert follower.state.snapshot().voltages_v == (0.10, 0.2)


def test_failed_step_and_failed_analysis_are_shown(writer):
    writer.session()
    writer.journal.begin(PRISTINE, 0)
    writer.journal.failed(PRISTINE, 0, "3 frames lost: 12, 13, 14")
    writer.journal.begin(PRISTINE, 1)
    writer.journal.done(PRISTINE, 1, {})
    writer.journal.add("analysis_failed", "scan_0000_01: reconstruct: no flats")
    follower = follow(writer)
    follower.update()
    snapshot = follower.state.snapshot()
    assert snapshot.failures == 1
    assert snapshot.analysis.failed == 1
    assert snapshot.analysis.waiting == 0
    texts = [entry.text for entry in snapshot.entries]
    assert any("attempt 1 failed: 3 frames lost" in text for text in texts)


def test_lost_orchestrator_is_an_alarm_once(writer):
    writer.session()
    writer.begin_half_cycle()
    follower = follow(writer, running=False)
    follower.update()
    follower.update()
    alarms = follower.state.snapshot().alarms
    assert len(alarms) == 1
    assert "insitu-ct resume" in alarms[0].text


@pytest.mark.parametrize(
    ("session", "runs"),
    [
        ({"pid": os.getpid(), "host": platform.node()}, True),
        ({"pid": 2**22 + 17, "host": platform.node()}, False),
        ({"pid": 1, "host": "elsewhere"}, None),
        ({}, None),
    ],
)
def test_whether_the_orchestrator_runs(session, runs):
    assert watch._runs_here(session) is runs


def test_resumed_experiment_is_no_longer_ended(writer):
    writer.session()
    writer.journal.add("ended", "Ctrl-C", details={"outcome": "stopped"})
    follower = follow(writer)
    follower.update()
    assert follower.over
    writer.session()
    follower.update()
    assert not follower.over
    assert follower.state.snapshot().outcome is None


def test_ended_experiment_is_shown_and_the_command_returns(writer):
    writer.session()
    reason = "0.0006 V in charge 4"
    writer.journal.add("ended", reason, details={"outcome": "short_circuit"})
    out = io.StringIO()
    assert watch.run(writer.layout.directory, Console(file=out, width=100)) == 0
    assert "SIMULATED" in out.getvalue()
    assert f"experiment ended, short circuit: {reason}" in out.getvalue()


def test_folder_without_a_journal_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="holds no journal"):
        watch.run(tmp_path)
    assert list(tmp_path.iterdir()) == []

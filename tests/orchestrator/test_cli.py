"""Exit codes and what is printed: 0 done, 1 failed, 2 bad input, 3 refused."""

import argparse
import logging
from types import SimpleNamespace

import pytest

import orchestrator.report
from analysis.errors import DataError
from orchestrator import cli
from orchestrator.ending import tell_end
from orchestrator.errors import ConfigurationError, RecordError, RefusedError


def run(monkeypatch, error):
    def command(args):
        raise error

    parser = SimpleNamespace(parse_args=lambda _: argparse.Namespace(run=command))
    monkeypatch.setattr(cli, "_parser", lambda: parser)
    return cli.main([])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigurationError("line one", "line two"), 2),
        (DataError("scan.nxs: no frames"), 2),
        (RefusedError("disk: full", "beam: off"), 3),
        (RecordError("the journal cannot be written"), 1),
        (KeyboardInterrupt(), 1),
    ],
)
def test_what_an_operator_can_act_on_is_told_in_lines(monkeypatch, capsys, error, code):
    assert run(monkeypatch, error) == code
    told = capsys.readouterr().err.splitlines()
    expected = str(error).splitlines() or ["stopped by Ctrl-C"]
    assert told == [f"insitu-ct: {line}" for line in expected]


def test_a_fault_of_ours_is_one_line_and_a_file(monkeypatch, capsys):
    monkeypatch.setattr(logging.getLogger(), "handlers", [])  # pytest's own
    assert run(monkeypatch, ZeroDivisionError("by\nzero")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert "ZeroDivisionError: by zero; the details are in " in line
    file = line.rpartition(" ")[2]
    with open(file, encoding="utf-8") as details:
        assert "Traceback" in details.read()


@pytest.mark.parametrize(("succeeded", "code"), [(True, 0), (False, 1)])
def test_the_end_decides_the_exit_code_and_the_report_never_does(
    monkeypatch, capsys, tmp_path, succeeded, code
):
    def broken(directory):
        raise OSError("no space left")

    monkeypatch.setattr(orchestrator.report, "write_report", broken)
    outcome = SimpleNamespace(
        kind="short_circuit", reason="why", unmeasured=2, succeeded=succeeded
    )
    assert tell_end(outcome, tmp_path, "one line more") == code
    captured = capsys.readouterr()
    assert "short circuit: why" in captured.out
    assert "2 tomogram(s) could not be measured" in captured.out
    assert "one line more" in captured.out
    assert "the report could not be written (no space left)" in captured.err

"""An IOC that dies while an experiment runs, and comes back."""

import threading

import pytest

pytestmark = [pytest.mark.system, pytest.mark.slow, pytest.mark.timeout(300)]

CHARGE_TOLERANCE = 0.02  # an instrument that died cannot say what its last samples were


@pytest.mark.parametrize("phase", ["half-cycle", "scan"])
@pytest.mark.parametrize("gone_s", [0.0, 15.0])
def test_the_experiment_goes_on_when_the_ioc_is_back(bench, phase, gone_s):
    bench.start(cycling={"num_half_cycles": 2}, ioc_wait_max_s=120.0)
    bench.reach(phase)
    bench.fault("ioc_death")
    threading.Event().wait(gone_s)
    bench.beamline.restart()
    assert bench.wait_for_end(240) == 0, bench.story()
    ended = bench.check_record()
    assert ended.details["outcome"] == "done", bench.story()
    assert bench.tomograms() == ["0", "1", "1.5"], bench.story()
    asked_c = 2 * bench.half_cycle_c
    assert bench.gross_charge_c == pytest.approx(asked_c, rel=CHARGE_TOLERANCE)
    assert bench.unsafe() == {}, bench.story()


def test_an_operator_need_not_wait_for_it(bench):
    bench.start(ioc_wait_max_s=600.0)
    bench.reach("scan")
    bench.fault("ioc_death")
    while "waiting up to 600 s for the IOC" not in bench.said():
        assert bench.program.poll() is None, bench.story()
        threading.Event().wait(0.1)
    bench.program.terminate()
    assert bench.wait_for_end(60) == 1, bench.story()
    assert "SIGTERM" in bench.check_record().text, bench.story()

"""Clean-up is done whatever happens, and never hides what happened."""

import bluesky.plan_stubs as bps
import pytest
from bluesky.utils import FailedPause, FailedStatus, RequestAbort, RequestStop
from ophyd.status import Status

from devices.errors import DeviceError, FramesLostError
from plans.failures import describe
from plans.run import in_run
from plans.tidying import Tidying, tidied


def step(did, name, error=None):
    yield from bps.null()
    did.append(name)
    if error is not None:
        raise error


def test_an_abort_stays_an_abort_though_the_clean_up_fails(RE):
    # Masked, it would look like a device error, and the scan would be retaken.
    did, told = [], []

    def caught():
        try:
            yield from tidied(
                step(did, "plan", RequestAbort()),
                lambda: step(did, "tidy", DeviceError("stage stuck")),
                told.append,
            )
        except RequestAbort as abort:
            did.append("abort")
            assert abort.__notes__ == ["stage stuck"]

    RE(caught())
    assert did == ["plan", "tidy", "abort"]
    assert told == ["stage stuck"]


def test_a_failure_keeps_its_kind_and_the_reason_names_both(RE, docs):
    plan = tidied(
        step([], "plan", FramesLostError("3 frames lost")),
        lambda: step([], "tidy", DeviceError("stage stuck")),
    )
    with pytest.raises(FramesLostError):
        RE(in_run(plan, {}))
    (stop,) = docs.of("stop")
    assert stop["exit_status"] == "fail"
    assert stop["reason"] == "3 frames lost; then stage stuck"


def test_a_clean_up_that_fails_after_success_is_no_success(RE, docs):
    plan = tidied(step([], "plan"), lambda: step([], "tidy", DeviceError("stuck")))
    with pytest.raises(DeviceError):
        RE(in_run(plan, {}))
    assert docs.of("stop")[0]["exit_status"] == "fail"


class Device:
    parent = None
    name = "device"

    def __init__(self):
        self.stopped = 0

    def stop(self, *, success=False):
        self.stopped += 1


def test_requests_and_stray_failures_wait_until_all_is_tidied():
    # The RunEngine throws them into whatever message is next.
    device, tidying = Device(), Tidying()
    status = Status()

    def plan():
        yield from tidying.stop(device)
        yield from tidying.confirm("device", lambda: status)
        tidying.finish("not tidy")

    messages = plan()
    assert next(messages).command == "stop"
    waiting = messages.throw(FailedStatus(status))
    assert waiting.command == "wait_for"
    again = messages.throw(RequestAbort())
    assert again.command == "wait_for"
    status.set_finished()
    with pytest.raises(RequestAbort):
        messages.send(None)


def test_a_failed_status_is_described_by_what_failed():
    status = Status()
    status.set_exception(FramesLostError("3 frames\nlost"))
    assert describe(FailedStatus(status)) == "3 frames lost"
    assert describe(ValueError()) == "ValueError"


@pytest.mark.parametrize("request_", [RequestStop, RequestAbort, FailedPause])
def test_a_run_that_was_asked_to_end_is_no_success_and_says_why(RE, docs, request_):
    class Wants:
        def stop_after_tomogram(self):
            return ""

        def abort_reason(self):
            return "lunch"

    def caught():
        try:
            yield from in_run(step([], "plan", request_()), {}, Wants())
        except request_:
            pass

    RE(caught())
    (stop,) = docs.of("stop")
    assert stop["exit_status"] == "abort"
    assert stop["reason"].endswith(": lunch")

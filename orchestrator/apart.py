"""Call a function in a process apart, so that a crash in a C library is survived.

A damaged HDF5 file can end the process that reads it with a segmentation fault; the
operator gets a line instead.
"""

import multiprocessing
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class CrashedError(RuntimeError):
    """The process ended without an answer; the message names the signal."""


def run_apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return what the function returns, raise what it raises.

    The process is forked: call it before threads are started. Arguments need not be
    picklable, the answer must be.

    Raises
    ------
    CrashedError
        The process was ended by a signal.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        succeeded, answer = receiver.recv()
    except EOFError:
        process.join()
        raise CrashedError(_ending(process.exitcode)) from None
    finally:
        receiver.close()
    process.join()
    if succeeded:
        return answer
    raise answer


def _answer(
    sender: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    try:
        sender.send((True, function(*arguments)))
    except KeyboardInterrupt:
        os._exit(130)  # the parent hears Ctrl-C itself
    except Exception as error:  # it is raised again where it was asked for
        sender.send((False, error))


def _ending(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"it was ended by {signal.Signals(-exit_code).name}"
    return f"it ended with code {exit_code}"

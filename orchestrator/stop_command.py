"""``insitu-ct stop DIR``: stop a running experiment from another terminal."""

import argparse
import os
import signal
import threading
import time
from pathlib import Path

from orchestrator.errors import ConfigurationError, RefusedError
from orchestrator.layout import Layout
from orchestrator.lock import lock_holder

WAIT_S = 120.0


def add_parser(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "stop", help="stop a running experiment from another terminal"
    )
    parser.add_argument("directory", type=Path, help="data folder of the experiment")
    parser.add_argument(
        "--after-tomogram",
        action="store_true",
        help="let it finish the tomogram it is at, or the next one",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Ask the orchestrator of a data folder to stop."""
    if not args.directory.is_dir():
        raise ConfigurationError(
            f"{args.directory}: no such folder; give the data folder of an experiment"
        )
    layout = Layout(args.directory.resolve())
    holder = lock_holder(layout.lock_file)
    if holder is None:
        raise RefusedError(f"{args.directory}: no orchestrator works on it")
    try:
        os.kill(holder, signal.SIGUSR1 if args.after_tomogram else signal.SIGTERM)
    except (ProcessLookupError, PermissionError) as error:
        raise RefusedError(
            f"{args.directory}: process {holder} cannot be told to stop ({error}); it "
            "may run on another computer or belong to another user"
        ) from error
    if args.after_tomogram:
        print(f"process {holder} stops after the tomogram")
        return 0
    print(f"process {holder} goes to the safe state")
    end_s = time.monotonic() + WAIT_S
    pause = threading.Event()
    while lock_holder(layout.lock_file) == holder:
        if time.monotonic() > end_s:
            print(f"process {holder} still runs after {WAIT_S:g} s; see its screen")
            return 1
        pause.wait(0.2)
    print("it has ended")
    return 0

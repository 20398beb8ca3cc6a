"""The command line: ``insitu-ct COMMAND …``.

Exit codes: 0 done, 1 failed, 2 bad configuration or input, 3 refused by a check. An
operator never sees a traceback; it is in the experiment's ``log.txt``.
"""

import argparse
import importlib
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path

from orchestrator.errors import ConfigurationError, InsituError, RefusedError
from orchestrator.heap import share_heaps

DONE, FAILED, BAD_INPUT, REFUSED = 0, 1, 2, 3

# Modules that add a subcommand each: `add_parser(subparsers)`, which sets `run`.
COMMANDS = (
    "check_command",
    "dry_run_command",
    "run_command",
    "resume_command",
    "stop_command",
    "analyse_command",
    "measure_command",
    "reanalyse_command",
    "voltage_command",
    "tiled_command",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    share_heaps()  # before a library starts its threads
    args = _parser().parse_args(arguments)
    try:
        return args.run(args)
    except RefusedError as error:
        return _say(error, REFUSED)
    except ConfigurationError as error:
        return _say(error, BAD_INPUT)
    except InsituError as error:
        return _say(error, FAILED)
    except BrokenPipeError:  # the reader of our output went away
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except KeyboardInterrupt:
        return _say("stopped by Ctrl-C", FAILED)
    except Exception as error:
        if _is_data_error(error):
            return _say(error, BAD_INPUT)
        where = _keep_details(error)
        text = f"{type(error).__name__}: {_one_line(error)}"
        return _say(f"{text}; the details are in {where}", FAILED)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="insitu-ct",
        description="Run an in situ tomography experiment on a battery cell.",
        epilog="Exit codes: 0 done, 1 failed, 2 bad configuration or input, "
        "3 refused by a check.",
    )
    subparsers = parser.add_subparsers(metavar="COMMAND", required=True)
    for name in COMMANDS:
        importlib.import_module(f"orchestrator.{name}").add_parser(subparsers)

    watch = subparsers.add_parser("watch", help="show a running experiment")
    watch.add_argument("directory", type=Path, help="data folder of the experiment")
    watch.set_defaults(run=_watch)

    report = subparsers.add_parser("report", help="write the report of an experiment")
    report.add_argument("directory", type=Path, help="data folder of the experiment")
    report.set_defaults(run=_report)
    return parser


def _watch(args: argparse.Namespace) -> int:
    from orchestrator import watch

    return watch.run(_experiment_folder(args.directory))


def _report(args: argparse.Namespace) -> int:
    from orchestrator.report import write_report

    print(write_report(_experiment_folder(args.directory)))
    return DONE


def _experiment_folder(directory: Path) -> Path:
    if not directory.is_dir():
        raise ConfigurationError(
            f"{directory}: no such folder; give the data folder of an experiment"
        )
    return directory


def _is_data_error(error: Exception) -> bool:
    from analysis.errors import DataError

    return isinstance(error, DataError)


def _keep_details(error: Exception) -> str:
    """Write the traceback into the log, or a file of its own; return its path."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            logging.getLogger(__name__).error("the command failed", exc_info=error)
            return handler.baseFilename
    descriptor, path = tempfile.mkstemp(prefix="insitu-ct-", suffix=".txt")
    with open(descriptor, "w", encoding="utf-8") as file:
        traceback.print_exception(error, file=file)
    return path


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _say(error: object, code: int) -> int:
    for line in str(error).splitlines():
        print(f"insitu-ct: {line}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())

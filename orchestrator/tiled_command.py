"""``insitu-ct tiled DIR``: copy an experiment's runs to a Tiled server."""

import argparse
import logging
import os
import sys
import threading
from pathlib import Path

from orchestrator.config import TiledSection, load_experiment
from orchestrator.errors import ConfigurationError, InsituError
from orchestrator.layout import Layout


def add_parser(
    subparsers: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add the subcommand."""
    parser = subparsers.add_parser(
        "tiled", help="copy an experiment's runs to a Tiled server"
    )
    parser.add_argument("directory", type=Path, help="data folder of the experiment")
    parser.add_argument(
        "--uri", help="of the server (default: tiled.uri of the experiment's file)"
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="go on as the record grows, until standard input is closed",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Send what is not there yet, and print how far it is, a line of JSON each."""
    layout = Layout(args.directory.resolve())
    if not layout.documents_file.exists() and not args.follow:
        raise ConfigurationError(
            f"{args.directory}: no {layout.documents_file.name} in it; give the data "
            "folder of an experiment"
        )
    section = load_experiment(layout.experiment_file).tiled
    if args.uri:
        section = _with_uri(section, args.uri)
    if section.uri is None:
        raise ConfigurationError(
            f"{layout.experiment_file}: tiled.uri is missing; name the server there or "
            "with --uri"
        )
    from orchestrator.tiled_copy import (
        NOT_INSTALLED,
        CopyStatus,
        RecordedRuns,
        RunCopier,
        TiledServer,
    )

    logging.basicConfig(level=logging.WARNING)

    def tell(status: CopyStatus) -> None:
        print(status.line(), flush=True)

    try:
        server = TiledServer(section.uri, os.environ.get(section.api_key_variable))
    except ImportError as error:
        tell(CopyStatus(fault=NOT_INSTALLED))
        raise ConfigurationError(NOT_INSTALLED) from error

    copier = RunCopier(RecordedRuns(layout.documents_file), server.send, tell)
    if args.follow:
        status = copier.follow(_end_of_input(), section.retry_s)
    else:
        status = copier.once()
    if status.fault:
        raise InsituError(f"{status.waiting} run(s) are not copied: {status.fault}")
    return 1 if status.refused else 0


def _with_uri(section: TiledSection, uri: str) -> TiledSection:
    try:
        return TiledSection.model_validate({**dict(section), "uri": uri})
    except ValueError as error:
        raise ConfigurationError(f"--uri: {error}") from error


def _end_of_input() -> threading.Event:
    """Return an event for the end of standard input: its writer has gone."""
    ended = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        ended.set()

    threading.Thread(target=wait, name="end-of-input", daemon=True).start()
    return ended

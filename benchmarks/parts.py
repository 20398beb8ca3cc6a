"""A benchmark that runs parts of itself in processes of their own."""

import argparse
import subprocess
import sys
from collections.abc import Callable
from typing import Any


def options_or_part(
    parser: argparse.ArgumentParser, **parts: Callable[..., None]
) -> argparse.Namespace | None:
    """Return the options, or None after this process was one of the parts.

    `start_part` runs this script again as such a part, its arguments as texts.
    """
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part is None:
        return options
    name, *arguments = options.part
    parts[name](*arguments)
    return None


def start_part(name: str, *arguments: Any, **how: Any) -> subprocess.Popen:
    """Start a part of the running script; `how` goes to `subprocess.Popen`."""
    command = [sys.executable, sys.argv[0], "--part", name, *map(str, arguments)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL, **how)

"""The end of a child that ends when its standard input closes."""

import subprocess


def close_input(process: "subprocess.Popen[bytes]") -> None:
    """Ask a child to end; asking one that has ended does no harm."""
    if process.stdin is not None:
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass  # closing flushes: it was dead already


def wait_or_kill(process: "subprocess.Popen[bytes]", timeout_s: float) -> None:
    """Wait for a child that was asked to end; kill it after so much wall time."""
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()

"""The C heap of a program that runs for days with short-lived threads.

glibc gives every thread a heap of its own, up to eight for each core, and what is free
in one goes neither to the next nor, where anything lies above it, back to the system.
"""

import ctypes

M_ARENA_MAX = -8  # of malloc.h
ARENAS = 2


def share_heaps() -> None:
    """Let all threads share a few heaps, where the C library can be told to."""
    _call("mallopt", M_ARENA_MAX, ARENAS)


def hand_back() -> None:
    """Hand the system back what is free in all heaps; takes milliseconds."""
    _call("malloc_trim", 0)


def _call(name: str, *arguments: int) -> None:
    try:
        function = getattr(ctypes.CDLL(None), name)
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return
    function(*arguments)

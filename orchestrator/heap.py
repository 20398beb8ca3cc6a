"""The C heap of a program that runs for days with short-lived threads.

glibc gives every thread a heap of its own, up to eight for each core, and hands what is
free in one neither to the next nor back: each grows to what was once needed at a time.
"""

import ctypes

M_ARENA_MAX = -8  # of malloc.h
ARENAS = 2


def share_heaps() -> None:
    """Let all threads share a few heaps, where the C library can be told to."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS, Windows
        return
    mallopt(M_ARENA_MAX, ARENAS)

"""How many heaps the threads of a program get from the C library."""

import ctypes
import subprocess
import sys

import pytest

from orchestrator import heap

HEAP_BYTES = 64 * 2**20  # glibc aligns the heaps of threads to this on 64 bits

# Ten threads that live at once each allocate something; their heaps are counted.
COUNT = f"""
import ctypes, sys, threading
from orchestrator.heap import share_heaps
if sys.argv[1] == "shared":
    share_heaps()
malloc = ctypes.CDLL(None).malloc
malloc.restype = ctypes.c_size_t
heaps, all_here = set(), threading.Barrier(10)
def allocate():
    all_here.wait()
    heaps.add(malloc(1000) // {HEAP_BYTES})
    all_here.wait()
threads = [threading.Thread(target=allocate) for _ in range(10)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(len(heaps))
"""


# 80 MB in pieces, of which one in a hundred stays: the rest is free, and below it.
FREED = """
import ctypes, psutil
from orchestrator.heap import hand_back
library = ctypes.CDLL(None)
library.malloc.restype, library.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
pieces = [library.malloc(8000) for _ in range(10_000)]
for piece in pieces:
    ctypes.memset(ctypes.c_void_p(piece), 1, 8000)
for number, piece in enumerate(pieces):
    if number % 100 != 99:
        library.free(piece)
before = psutil.Process().memory_info().rss
hand_back()
print(before - psutil.Process().memory_info().rss)
"""

needs_glibc = pytest.mark.skipif(
    not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="needs glibc"
)


@needs_glibc
def test_what_is_free_is_handed_back():
    command = [sys.executable, "-c", FREED]
    freed = int(subprocess.run(command, capture_output=True, check=True).stdout)
    # of 79 MB free: all but the page at either end of each of 100 gaps
    assert freed > 70e6


@needs_glibc
def test_threads_share_two_heaps():
    def heaps(how):
        command = [sys.executable, "-c", COUNT, how]
        return int(subprocess.run(command, capture_output=True, check=True).stdout)

    assert heaps("shared") <= heap.ARENAS < heaps("apart")


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_another_c_library_is_left_alone(monkeypatch, error):
    def no_library(_name):
        raise error("not here")

    monkeypatch.setattr(ctypes, "CDLL", no_library)
    heap.share_heaps()
    heap.hand_back()

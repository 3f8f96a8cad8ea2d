"""Memory of the process: large blocks go back to the system as soon as they are free."""

import ctypes
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # parameters of mallopt in glibc's malloc.h
LARGE_BLOCK_BYTES = 1 << 20
MAX_FREE_TOP_BYTES = 4 << 20
"""Free memory at the end of the heap that is kept for later."""


def return_large_blocks() -> bool:
    """Have malloc return every large block at once. Return False where the C library cannot do that.

    By default glibc raises its thresholds with the blocks that it sees: after one request of 32 MB it would keep up to
    64 MB of free memory for ever.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_MMAP_THRESHOLD, LARGE_BLOCK_BYTES)) and bool(mallopt(_TRIM_THRESHOLD, MAX_FREE_TOP_BYTES))

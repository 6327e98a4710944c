"""Where freed memory goes: on a CPU, giving it back after every step costs more than it saves."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Parameters of glibc's `mallopt`, malloc.h."""


def keep_freed_memory() -> bool:
    """From now on this process keeps what it frees, to use it again.

    Each step makes its gradients and activations anew. By default glibc returns blocks of some
    megabytes to the system when they are freed, and every page of the next ones has to be mapped
    and cleared again: a quarter of a step of ten million weights (`bench/README.md`). Meant for
    programs that train; nothing undoes it.

    Returns:
        Whether the C library could be told so; others than glibc cannot.
    """
    tune = getattr(ctypes.CDLL(None), "mallopt", None)
    if tune is None:
        return False
    # No block is mapped by itself, and the end of the heap is never cut off.
    return bool(tune(_M_MMAP_MAX, 0)) and bool(tune(_M_TRIM_THRESHOLD, -1))

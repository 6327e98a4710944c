"""Memory that is freed stays with a process that trains."""

import os
import platform
import subprocess
import sys

import pytest

MEASURE = """
import os, sys
from pathlib import Path
import torch
from deft import train

def resident_mib():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20

if sys.argv[1] == "keep":
    assert train.keep_freed_memory()
before = resident_mib()
for _ in range(3):
    blocks = [torch.ones(5 * 2**20) for _ in range(4)]  # 20 MiB each
    del blocks
print(resident_mib() - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told")
def test_freed_blocks_stay_with_the_process():
    # By itself glibc learns from what is freed; told a size, it gives back all larger blocks.
    env = dict(os.environ, MALLOC_MMAP_THRESHOLD_="131072", MALLOC_TRIM_THRESHOLD_="131072")
    kept, given_back = (
        float(subprocess.check_output([sys.executable, "-c", MEASURE, how], text=True, env=env))
        for how in ("keep", "leave")
    )
    assert kept > 75
    assert given_back < 25

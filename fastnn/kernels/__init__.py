"""All of Numba, and nothing else: tiles, layers, workers, whole steps."""

import os

from fastnn.errors import UsageError

# Numba fails at import with a bare ValueError. Its threads are not used here; ours are set by --threads.
_threads = os.environ.get("NUMBA_NUM_THREADS", "1")
if _threads.strip().lstrip("+-").isdecimal() and int(_threads) < 1:
    raise UsageError(f"NUMBA_NUM_THREADS={_threads}: expected 1 or more. Unset it")

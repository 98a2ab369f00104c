"""On PYTHONPATH of a training job under test: makes one of its processes get stuck, die or be late while it reads.

CMR_FAULT is `kind:process:seconds`; the process is that of `--process_id`. Python imports `sitecustomize` at its start,
before there is a loader to change: a thread waits for it.
"""

import os
import signal
import sys
import threading
import time

# More than is read ahead from the first step on.
_STEP = 8


def _spoil(kind: str, seconds: float) -> None:
    while not hasattr(sys.modules.get("cmr_jax.data.loader"), "eval_rows"):  # the last that the module defines
        time.sleep(0.01)
    loader = sys.modules["cmr_jax.data.loader"].Loader
    original = loader.batch

    def batch(self, rows_B, *, step=None, first=0):
        if step is not None and step >= _STEP:
            if kind == "dead":
                os.kill(os.getpid(), signal.SIGKILL)
            if kind == "frozen":
                os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(seconds if kind == "late" else 10**6)
        return original(self, rows_B, step=step, first=first)

    loader.batch = batch


if "CMR_FAULT" in os.environ:
    _kind, _process, _seconds = os.environ["CMR_FAULT"].split(":")
    if f"--process_id={_process}" in sys.argv:
        threading.Thread(target=_spoil, args=(_kind, float(_seconds)), daemon=True).start()

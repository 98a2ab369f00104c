"""Training jobs as users start them, small enough to be started many times: the binary, in processes of its own."""

import json
import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

# One compile is shared by all: the number of steps is a constant of the program.
FLAGS = (
    "--config=configs/demo.py", "--config.train.batch_size=16", "--config.train.log_every=1",
    "--config.model.video.image_size=16", "--config.model.video.patch=8", "--config.model.video.width=32",
    "--config.model.video.depth=1", "--config.model.text.width=32", "--config.data.layout=picture",
    "--config.data.centre=image", "--config.data.spacing_mm=0.0", "--config.data.sections=findings",
)  # fmt: skip


def lines(workdir: Path) -> list[dict[str, float]]:
    try:
        return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    except (OSError, ValueError):  # not there yet, or half a line of it
        return []


def losses(workdir: Path) -> dict[int, float]:
    found = [(int(line["step"]), line["loss"]) for line in lines(workdir) if "loss" in line]
    assert len(dict(found)) == len(found), "a step stands there twice"
    return dict(found)


def saved(workdir: Path) -> list[int]:
    return sorted(int(p.stem) for p in (workdir / "checkpoints" / "manifests").glob("*.json"))


class Job:
    """Two simulated devices, shared by `processes`. `cache` holds what one of them has compiled for all."""

    def __init__(self, python: str, data: Path, workdir: Path, processes: int = 1, settings: Sequence[str] = ()):
        self.workdir = workdir
        devices = 2 // processes
        local = ["launch.local", f"--processes={processes}", f"--devices={devices}", "--"]
        trainer = ["cmr_jax.bin.train"] if processes == 1 else local
        self.command = [python, "-m", *trainer, *FLAGS, f"--workdir={workdir}", f"--config.data.path={data}", *settings]
        self.environment = {
            **os.environ,
            "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"
            " --xla_cpu_enable_concurrency_optimized_scheduler=false",
            "JAX_COMPILATION_CACHE_DIR": str(data.parent / f"cache{processes}"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }

    def start(self) -> "subprocess.Popen[str]":
        """In a session of its own: what is killed is the whole of it."""
        return subprocess.Popen(
            self.command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
        )  # fmt: skip

    def to_the_end(self) -> None:
        done = subprocess.run(self.command, env=self.environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr[-3000:]

    def wait_for(self, running: "subprocess.Popen[str]", moment: Callable[[Path], bool]) -> bool:
        """True once `moment` has come; False where the job ended well before it did."""
        while not moment(self.workdir):
            if running.poll() is not None:
                assert running.returncode == 0, running.stderr.read()[-3000:] if running.stderr else ""
                return False
            time.sleep(0.005)
        return True

    def signalled(self, number: int, moment: Callable[[Path], bool]) -> tuple[int, str, float]:
        """Starts, sends the signal as soon as `moment` has come; returns exit code, stderr and the seconds it took."""
        running = self.start()
        try:
            assert self.wait_for(running, moment), "it ended before the moment"
            sent = time.monotonic()
            running.send_signal(number)
            _, errors = running.communicate(timeout=300)
            return running.returncode, errors, time.monotonic() - sent
        finally:
            running.kill()

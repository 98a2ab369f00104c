"""N processes of a training job on one machine, for tests and laptops.

    python -m launch.local --processes 2 --devices 4 -- --config configs/demo.py --workdir W --config.data.path=D

Everything after `--` goes to cmr_jax.bin.train. Each process sees `--devices` simulated CPU devices (0: the machine's
own accelerators). When one process fails the others are stopped: they would wait for it for ever. SIGTERM and SIGUSR1
are passed on to all, which save and leave (exit 75: start the same command again).

Where several processes simulate several devices each, a mesh of two axes is refused: gloo would confuse them
(`cmr_jax.sharding`). With one device a process any mesh works. TPUs and GPUs do not exchange by gloo.
"""

import os
import signal
import socket
import subprocess
import sys
import time

from absl import flags

from cmr_jax import cli
from cmr_jax.errors import InputError

_PROCESSES = flags.DEFINE_integer("processes", 2, "Processes to start.", lower_bound=1)
_DEVICES = flags.DEFINE_integer("devices", 4, "Simulated CPU devices of each; 0: real ones.", lower_bound=0)


# For the others to leave by themselves when one has failed, or was told to save and leave.
GRACE_SECONDS = 5.0


def free_port() -> int:
    """A port of the loopback interface that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def launch(arguments: list[str], processes: int, devices: int) -> int:
    """Runs the job and returns the exit code of the first process that failed, or 0."""
    environment = dict(os.environ)
    if devices:
        # In one order on every device: independent collectives wait for one another for ever otherwise.
        flags = "--xla_cpu_enable_concurrency_optimized_scheduler=false"
        # Many devices on few cores only wait long for one another: no reason to end the process after 40 s.
        flags += " --xla_cpu_collective_call_terminate_timeout_seconds=900"
        flags += " --xla_cpu_collective_call_warn_stuck_timeout_seconds=300"
        flags += f" --xla_force_host_platform_device_count={devices}"
        environment |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    base = [sys.executable, "-m", "cmr_jax.bin.train", "--distributed", f"--coordinator=127.0.0.1:{free_port()}"]
    running = [
        subprocess.Popen([*base, f"--num_processes={processes}", f"--process_id={i}", *arguments], env=environment)
        for i in range(processes)
    ]

    def pass_on(number: int, _: object) -> None:
        for process in running:
            process.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGTERM, signal.SIGUSR1)}
    failed_at = None
    try:
        while True:
            codes = [process.poll() for process in running]
            failed = [code for code in codes if code]
            if None not in codes:
                return failed[0] if failed else 0
            failed_at = failed_at or (time.monotonic() if failed else None)
            if failed_at and time.monotonic() - failed_at > GRACE_SECONDS:
                return failed[0]
            time.sleep(0.1)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for process in running:
            process.kill()
            process.wait()


def _main(arguments: list[str]) -> int:
    if not arguments:
        raise InputError("nothing to run: give the trainer's flags after --")
    return launch(arguments, _PROCESSES.value, _DEVICES.value)


def main() -> None:
    # Cut at `--` ourselves: absl would hand back what follows, but only after reading the trainer's flags as ours.
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments = sys.argv[cut + 1 :]
    sys.argv = sys.argv[:cut]
    cli.run(lambda: _main(arguments))


if __name__ == "__main__":
    main()

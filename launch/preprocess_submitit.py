"""The preprocessing as a SLURM array, by submitit (`pip install submitit`; nothing else of ours needs it).

    python -m launch.preprocess_submitit --tasks 32 --logs L --scan_index S -- --dicom_dir D --reports R --out O ...

Three steps, one after the other: a job that reads every header once, an array of `--tasks` jobs that do the studies,
and a job that publishes. Everything after `--` goes to preprocessing.run in each of them. Started again after a
failure it goes on where it was. `--cluster local` runs the same on this machine.

The logs folder holds the command lines, so it names the folder of the DICOM: keep it, the key and the scan index on
the hospital's side.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

from absl import flags

from cmr_jax import cli
from cmr_jax.errors import InputError

_TASKS = flags.DEFINE_integer("tasks", 8, "Jobs of the array.", lower_bound=1)
_PARALLEL = flags.DEFINE_integer("parallel", 256, "Most jobs at the same time.", lower_bound=1)
_LOGS = flags.DEFINE_string("logs", None, "Folder of submitit, on a disk that all nodes see.", required=True)
_SCAN_INDEX = flags.DEFINE_string("scan_index", None, "Private file for the headers, on such a disk.", required=True)
_CLUSTER = flags.DEFINE_enum("cluster", "slurm", ["slurm", "local"], "Where the jobs run.")
_MINUTES = flags.DEFINE_integer("minutes", 240, "Time limit of a job.", lower_bound=1)
_CPUS = flags.DEFINE_integer("cpus", 8, "Cores, and so worker processes, of a job.", lower_bound=1)
_MEMORY_GB = flags.DEFINE_float("memory_gb", 32.0, "Memory of a job.", lower_bound=1.0)
_PARTITION = flags.DEFINE_string("partition", "", "Partition of SLURM; empty: the default one.")


def preprocess(arguments: list[str]) -> int:
    """One run of preprocessing.run; what a job executes. Its output goes to the job's log; returns the exit code."""
    return subprocess.run([sys.executable, "-m", "preprocessing.run", *arguments]).returncode


def steps(arguments: list[str], tasks: int, scan_index: str) -> list[list[list[str]]]:
    """The command lines of each step: those of one step may run at the same time."""
    index = f"--scan_index={scan_index}"
    array = [[*arguments, index, f"--shard_index={i}", f"--num_shards={tasks}"] for i in range(tasks)]
    return [[[*arguments, index, "--scan_only"]], array, [[*arguments, index, "--finalize"]]]


def _executor() -> Any:
    try:
        import submitit
    except ImportError:
        raise InputError("submitit is not installed: pip install submitit") from None
    executor = submitit.AutoExecutor(folder=str(Path(_LOGS.value) / "%j"), cluster=_CLUSTER.value)
    executor.update_parameters(
        name="cmr-preprocess", timeout_min=_MINUTES.value, cpus_per_task=_CPUS.value, mem_gb=_MEMORY_GB.value
    )
    if _CLUSTER.value == "slurm":
        executor.update_parameters(slurm_array_parallelism=_PARALLEL.value)
        if _PARTITION.value:
            executor.update_parameters(slurm_partition=_PARTITION.value)
    return executor


def _main(arguments: list[str]) -> int:
    """Submits one step after the other and waits for each; returns the exit code."""
    if not arguments:
        raise InputError("nothing to run: give the flags of preprocessing.run after --")
    executor = _executor()
    arguments = [*arguments, f"--num_workers={_CPUS.value}"]
    for number, step in enumerate(steps(arguments, _TASKS.value, _SCAN_INDEX.value), 1):
        print(f"step {number} of 3: {len(step)} jobs", file=sys.stderr, flush=True)
        jobs = executor.map_array(preprocess, step)
        codes = [job.result() for job in jobs]
        if failed := sum(code != 0 for code in codes):
            print(f"step {number}: {failed} of {len(step)} jobs failed, see --logs; then start again", file=sys.stderr)
            return max(codes)
    return 0


def main() -> None:
    # Cut at `--` ourselves: absl would hand back what follows, but only after reading those flags as ours.
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments = sys.argv[cut + 1 :]
    sys.argv = sys.argv[:cut]
    cli.run(lambda: _main(arguments))


if __name__ == "__main__":
    main()

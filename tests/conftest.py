"""Eight CPU devices, strict promotion, warnings as errors (pyproject.toml): set before anything imports jax."""

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Eight devices share few cores. Left to itself XLA may start independent collectives in another order on each device
# and wait for ever; and devices that only wait long for one another are no reason to end the process after 40 s.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_force_host_platform_device_count=8 --xla_cpu_enable_concurrency_optimized_scheduler=false"
    " --xla_cpu_collective_call_terminate_timeout_seconds=900"
    " --xla_cpu_collective_call_warn_stuck_timeout_seconds=300",
)
os.environ.setdefault("JAX_NUMPY_RANK_PROMOTION", "raise")
os.environ.setdefault("JAX_NUMPY_DTYPE_PROMOTION", "strict")
os.environ.setdefault("MPLBACKEND", "Agg")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real DICOM: CMR_REAL_DATA, else ../shared/data beside the project."""
    folder = Path(os.environ.get("CMR_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "sunnybrook" / "dicom").is_dir():
        pytest.skip("no real DICOM here: set CMR_REAL_DATA to the folder that holds sunnybrook/ and odd_dicom/")
    return folder


@pytest.fixture(scope="session")
def python() -> str:
    return sys.executable

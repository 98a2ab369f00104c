"""The ledger of wall-clock time, utilisation, the profiler's window and the compile cache."""

import ctypes
import json
import math
import subprocess
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

from cmr_jax.models import flops
from cmr_jax.train import chips, loop, perf
from cmr_jax.train import workdir as workdir_lib
from cmr_jax.train.chips import CHIPS
from cmr_jax.train.perf import STATIONS, Clock, utilisation
from tests import datasets, tiny


def test_every_second_is_booked_once():
    time = iter(range(100))
    clock = Clock(lambda: float(next(time)))  # a second passes at every look
    clock.begin()  # init 1
    with clock.span("data"):  # step 1
        pass  # data 1
    with clock.span("save"), clock.span("eval"):  # step 1, save 1
        pass  # eval 1, save 1
    read = clock.read(steps=2)  # step 1
    ledger = {name.removeprefix("ledger/"): value for name, value in read.items() if name.startswith("ledger/")}
    assert ledger == {"init": 1, "compile": 0, "data": 1, "step": 3, "eval": 1, "save": 2}
    assert list(ledger) == list(STATIONS)
    assert read["perf/step_seconds"] == 4 / 2 and read["perf/data_wait_share"] == 1 / 4
    again = clock.read(steps=1)
    assert again["ledger/step"] == 4 and again["perf/data_wait_share"] == 0 and again["perf/step_seconds"] == 1


def test_a_wait_beside_busy_devices_is_no_wait():
    time = iter(range(100))
    clock = Clock(lambda: float(next(time)))
    clock.begin()
    for counts in (True, False, False):
        with clock.span("data", counts=lambda counts=counts: counts):
            pass
    assert clock.read(steps=3)["ledger/data"] == 1 and clock.read(steps=1)["ledger/step"] == 7


def test_utilisation_is_of_the_peak_of_all_devices_or_not_known():
    assert utilisation(1e15, 2.0, 10, CHIPS["v5e"].flops_per_second)["perf/mfu"] == pytest.approx(5e14 / 1.97e15)
    unknown = utilisation(1e15, 2.0, 10, None)
    assert math.isnan(unknown["perf/mfu"]) and unknown["perf/flops_per_second"] == 5e14


def test_a_run_writes_its_ledger_its_profile_and_its_utilisation(tmp_path: Path, monkeypatch):
    data = datasets.write_dataset(tmp_path / "data", {"train": 24, "val": 0, "test": 0})
    monkeypatch.setattr(chips, "of_device_kind", lambda kind: CHIPS["v5e"])
    settings = tiny.config(data, steps=3, profile_start=2, profile_steps=1)
    run = workdir_lib.prepare(tmp_path / "run", settings)
    loop.train(run.config, run.model, run.loader(data, "train"), run.workdir)
    lines = [json.loads(line) for line in (run.workdir / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert len(steps) == 3
    for line in steps:
        want = flops.train_step(run.config) / line["perf/step_seconds"]
        assert line["perf/flops_per_second"] == pytest.approx(want)
        assert line["perf/mfu"] == pytest.approx(want / (8 * 197e12))
    ledger = {name: lines[-1][f"ledger/{name}"] for name in STATIONS}
    assert all(ledger[name] > 0 for name in ("init", "compile", "data", "step", "save")) and ledger["eval"] == 0
    assert len(list((run.workdir / "profile").rglob("*.xplane.pb"))) == 1


CACHE = """
import sys, os, pathlib, jax
from cmr_jax.train.perf import use_compile_cache
use_compile_cache(pathlib.Path(sys.argv[1]))
print(jax.config.jax_compilation_cache_dir)
"""


@pytest.mark.parametrize("case", ["workdir", "environment", "not writable"])
def test_where_compiled_programs_are_kept(python: str, tmp_path: Path, monkeypatch, case: str):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    workdir = tmp_path / "run"
    if case == "environment":
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "shared"))
    if case == "not writable":  # a file where the folder would be: holds for root too
        workdir.touch()
    done = subprocess.run([python, "-c", CACHE, str(workdir)], capture_output=True, text=True)
    want = {"workdir": workdir / "compile_cache", "environment": tmp_path / "shared", "not writable": None}[case]
    assert done.returncode == 0 and done.stdout.strip() == str(want) and not done.stderr, done.stderr


def test_the_heap_of_a_long_compilation_is_given_back_once_it_is_over(monkeypatch):
    trims = []
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace(malloc_trim=trims.append))
    perf.give_back_after_compiling.__wrapped__()
    jax.jit(lambda x: x + 1)(np.zeros(3))
    assert not trims  # each small program would cost a walk over the whole heap
    monkeypatch.setattr(perf, "_LONG_COMPILE_SECONDS", 0.0)
    run = jax.jit(lambda x: x + 2)
    run(np.zeros(3))
    assert trims and set(trims) == {0}
    trims.clear()
    run(np.zeros(3))
    assert not trims


def test_another_c_library_gives_nothing_back(monkeypatch):
    listeners = []
    monkeypatch.setattr(ctypes, "CDLL", lambda _: SimpleNamespace())
    monkeypatch.setattr(jax.monitoring, "register_event_duration_secs_listener", listeners.append)
    perf.give_back_after_compiling.__wrapped__()
    assert not listeners

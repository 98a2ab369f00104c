"""The pool: one item's death, delay or hunger costs that item, and nothing of the pool outlives its parent."""

import collections
import functools
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from cmr_jax.errors import InputError
from preprocessing.parallel import Workers
from tests.preprocessing import faulty
from tests.preprocessing.tiny_dicom import PROJECT


def lost(item: object, why: str) -> str:
    return f"lost {item}: {why}"


@pytest.mark.parametrize(("num_workers", "chunk"), [(0, 1), (1, 4), (3, 1), (3, 4)])
def test_results_come_in_the_order_of_the_items(num_workers, chunk):
    with Workers(num_workers) as workers:
        assert list(workers.map(faulty.slow_square, range(10), chunk)) == [n * n for n in range(10)]
        assert list(workers.map(faulty.square, range(5, 8), chunk)) == [25, 36, 49]  # the same processes go on
        assert list(workers.map(faulty.square, [])) == []


def calls(folder: pathlib.Path) -> collections.Counter[str]:
    return collections.Counter((folder / "calls").read_text().split("\n")[:-1])


def test_every_way_to_die_costs_its_item_alone(tmp_path):
    deaths = {
        "segv": "SIGSEGV",
        "abort": "SIGABRT",
        "kill": "SIGKILL",
        "exit": "exit code 7",
        "sys.exit": "exit code 1",
        "memory": "out of memory",
    }
    items = [0, *deaths, *range(1, 6)]
    with Workers(2, memory_gb=8) as workers:
        got = list(workers.map(functools.partial(faulty.misbehave, tmp_path), items, lost=lost))
    assert got[0] == "did 0" and got[7:] == [f"did {n}" for n in range(1, 6)]
    assert got[1:7] == [f"lost {name}: its worker process ended: {how}" for name, how in deaths.items()]
    assert calls(tmp_path) == {"0": 1, **dict.fromkeys(deaths, 2), **{str(n): 1 for n in range(1, 6)}}


def test_a_hang_ends_with_its_time_and_others_go_on_meanwhile(tmp_path):
    how = "hang in C"
    items = [how, *range(20)]
    begin = time.monotonic()
    arrived = []
    with Workers(2) as workers:
        run = functools.partial(faulty.misbehave, tmp_path)
        for result in workers.map(run, items, timeout_s=2.0, lost=lost):
            arrived.append(result)
            if len(arrived) == 1:  # in order: the first result waited for the limit, and all others were done by then
                assert sum(calls(tmp_path).values()) == 21
    assert arrived == [f"lost {how}: it took longer than 2 s", *(f"did {n}" for n in range(20))]
    assert time.monotonic() - begin < 60
    assert calls(tmp_path)[how] == 1  # a delay is not tried again


def test_a_lost_chunk_is_repeated_item_by_item(tmp_path):
    items = [0, 1, "abort", 3, 4, 5, "hang", 7]
    with Workers(2) as workers:
        run = functools.partial(faulty.misbehave, tmp_path)
        got = list(workers.map(run, items, 4, timeout_s=2.0, lost=lost))
    why = {2: "its worker process ended: SIGABRT", 6: "it took longer than 2 s"}
    assert got == [f"lost {item}: {why[n]}" if n in why else f"did {item}" for n, item in enumerate(items)]
    assert calls(tmp_path)["abort"] == 2


def test_what_the_function_raises_is_raised_and_the_pool_can_go_on(tmp_path):
    run = functools.partial(faulty.misbehave, tmp_path)
    with Workers(2) as workers:
        with pytest.raises(ValueError, match="ours to fix"):
            list(workers.map(run, [1, 2, "raise", 4], lost=lost))
        assert list(workers.map(faulty.square, [3])) == [9]
        with pytest.raises(RuntimeError, match="SIGABRT"):
            list(workers.map(run, ["abort"]))


def test_a_worker_has_its_limits_and_is_silent():
    with Workers(1, memory_gb=6) as workers:
        assert list(workers.map(faulty.about, [0])) == [(0, 6 << 30, os.devnull, os.devnull)]


def test_too_little_memory_to_start_is_said():
    with Workers(2, memory_gb=0.01) as workers, pytest.raises(InputError, match="--worker_memory_gb"):
        list(workers.map(faulty.square, [1, 2]))


def test_a_map_left_early_leaves_no_process_at_work(tmp_path):
    with Workers(2) as workers:
        results = workers.map(functools.partial(faulty.misbehave, tmp_path), [1, "hang"])
        assert next(results) == "did 1"
        pids = [worker.process.pid for worker in workers._workers]
        results.close()  # pyright: ignore[reportAttributeAccessIssue]
        assert not any(running(pid) for pid in pids if pid)


PARENT = """
import functools, os, pathlib, sys, time
from preprocessing.parallel import Workers
from tests.preprocessing import faulty
if __name__ == "__main__":
    with Workers(2) as workers:
        for one in workers.map(functools.partial(faulty.misbehave, pathlib.Path(sys.argv[1])), [0, 1, *sys.argv[2:]]):
            print(*(worker.process.pid for worker in workers._workers), flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("busy", [[], ["hang"], ["hang in C"]], ids=["idle", "at work", "in C"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_workers_leave_with_their_parent(tmp_path, busy, how):
    if busy == ["hang in C"] and how != signal.SIGINT:
        pytest.skip("nothing of Python runs there: the alarm of the study's time limit ends it")
    (tmp_path / "parent.py").write_text(PARENT)
    command = [sys.executable, str(tmp_path / "parent.py"), str(tmp_path), *busy]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    parent = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert parent.stdout is not None
    pids = [[int(pid) for pid in parent.stdout.readline().split()] for _ in range(2)][-1]
    assert pids and all(running(pid) for pid in pids)
    os.killpg(parent.pid, how) if how == signal.SIGINT else parent.send_signal(how)  # as a terminal does
    parent.communicate(timeout=30)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and any(running(pid) for pid in pids):
        time.sleep(0.05)
    assert not any(running(pid) for pid in pids)


@pytest.mark.skipif(not pathlib.Path("/proc/self/status").exists(), reason="needs /proc")
def test_no_worker_hears_ctrl_c_while_it_starts():
    """Neither the first, with which Python starts a process of its own and unblocks the signal, nor later ones."""
    program = (
        "import re\n"
        "from preprocessing.worker import Worker\n"
        "for _ in range(2):\n"
        "    worker = Worker(0)\n"
        "    status = open(f'/proc/{worker.process.pid}/status').read()\n"
        "    print(int(re.search(r'SigBlk:\\s*(\\w+)', status)[1], 16) >> 1 & 1)\n"
        "    worker.end()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["1", "1"], done.stderr


def running(pid: int) -> bool:
    """Whether the process lives; one that ended and was not yet collected does not."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False

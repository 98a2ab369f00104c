"""The swap of datasets, stopped at every single step: old, new or clearly unfinished; the next command heals it."""

import errno
import os
import pathlib
import shutil

import pytest

from cmr_jax.data import schema
from cmr_jax.errors import InputError
from preprocessing import swap


class Stopped(BaseException):
    """What kill -9 would be."""


def fill(version: str, shards: int):
    def write(folder: pathlib.Path) -> dict:
        names = [schema.shard_name("train", n, shards) for n in range(shards)]
        for name in (*names, *map(schema.index_name, names), "studies.csv", "summary.md", "tokenizer.model"):
            (folder / name).write_text(version)
        (folder / "qc").mkdir()
        (folder / "qc" / "page.png").write_text(version)
        splits = {"train": {"shards": [{"name": name} for name in names]}}
        return {"version": version, "splits": splits, "tables": {"studies.csv": "", "summary.md": ""}}

    return write


def contents(out: pathlib.Path) -> dict[str, str]:
    found = (p for p in out.rglob("*") if p.is_file() and not str(p.relative_to(out)).startswith("."))
    return {str(p.relative_to(out)): p.read_text() for p in sorted(found)}


def count_steps(monkeypatch: pytest.MonkeyPatch, stop_after: int) -> list[int]:
    """Every call that changes the folder counts; the one after `stop_after` of them stops the process instead."""
    steps = [0]

    def counted(real):
        def call(*args, **kwargs):
            if steps[0] == stop_after:
                raise Stopped
            steps[0] += 1
            return real(*args, **kwargs)

        return call

    for owner, name in ((pathlib.Path, "rename"), (pathlib.Path, "rmdir"), (pathlib.Path, "mkdir"), (shutil, "rmtree")):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    return steps


@pytest.fixture
def versions(tmp_path) -> dict[str, dict[str, str]]:
    swap.publish(tmp_path / "a", fill("old", 4))
    swap.publish(tmp_path / "b", fill("new", 2))
    return {"old": contents(tmp_path / "a"), "new": contents(tmp_path / "b")}


def test_a_stop_at_any_step_is_seen_as_old_or_new_or_unfinished_and_heals(tmp_path, monkeypatch, versions):
    seen = []
    for stop in range(200):
        out = tmp_path / f"out{stop}"
        swap.publish(out, fill("old", 4))
        with monkeypatch.context() as patch:
            count_steps(patch, stop)
            try:
                swap.publish(out, fill("new", 2))
                finished = True
            except Stopped:
                finished = False
        whole = (out / schema.MANIFEST).exists()
        if whole:
            assert contents(out) in versions.values()
        seen.append("whole" if whole else "unfinished")
        swap.heal(out)
        assert contents(out) in ((versions["new"],) if finished or seen[-1] == "unfinished" else versions.values())
        swap.publish(out, fill("new", 2))
        assert contents(out) == versions["new"]
        assert sorted(p.name for p in out.iterdir() if p.name.startswith(".")) == [".work"]
        if finished:
            break
    assert seen[0] == seen[-1] == "whole" and seen.count("unfinished") > 10


@pytest.mark.parametrize("first_stop", [12, 20, 28])
def test_healing_can_be_stopped_too(tmp_path, monkeypatch, versions, first_stop):
    out = tmp_path / "out"
    swap.publish(out, fill("old", 4))
    with monkeypatch.context() as patch, pytest.raises(Stopped):
        count_steps(patch, first_stop)
        swap.publish(out, fill("new", 2))
    assert not (out / schema.MANIFEST).exists()
    for _ in range(20):  # stopped after three steps again and again
        with monkeypatch.context() as patch:
            count_steps(patch, 3)
            try:
                swap.heal(out)
                break
            except Stopped:
                continue
    else:
        pytest.fail("never healed")
    assert contents(out) == versions["new"]


def test_a_failed_writer_leaves_the_old_dataset_untouched(tmp_path, versions):
    out = tmp_path / "out"
    swap.publish(out, fill("old", 4))

    def full_disk(folder: pathlib.Path) -> dict:
        fill("new", 2)(folder)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError):
        swap.publish(out, full_disk)
    assert contents(out) == versions["old"]
    assert not (out / swap.STAGING).exists()


def test_two_at_once_are_refused(tmp_path):
    with swap.locked(tmp_path), pytest.raises(InputError, match="another process"):
        swap.publish(tmp_path, fill("new", 2))
    swap.publish(tmp_path, fill("new", 2))


def test_the_list_of_removals_and_files_of_the_user_are_no_part_of_the_swap(tmp_path):
    swap.publish(tmp_path, fill("old", 4))
    (tmp_path / "removed.csv").write_text("kind,id\n")
    (tmp_path / "mine.csv").write_text("mine")
    swap.publish(tmp_path, fill("new", 2))
    assert (tmp_path / "removed.csv").read_text() == "kind,id\n"
    assert (tmp_path / "mine.csv").read_text() == "mine"

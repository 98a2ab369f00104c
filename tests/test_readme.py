"""The README's commands run as they stand there."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def _block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, re.S)
    assert found
    return found.group(1)


def _commands() -> list[list[str]]:
    return [shlex.split(line) for line in _block("bash").splitlines()]


@pytest.fixture(scope="module")
def tour(tmp_path_factory, python: str) -> Path:
    """Every line of "By hand", in its order, in an empty folder."""
    folder = tmp_path_factory.mktemp("tour")
    (folder / "configs").symlink_to(ROOT / "configs")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_", "JAX_NUMPY"))}
    environment |= {"PYTHONPATH": str(ROOT), "JAX_COMPILATION_CACHE_DIR": str(folder / "cache")}
    for command in _commands():
        done = subprocess.run(
            [python, *command[1:]], cwd=folder, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stderr[-2000:]}"
        assert "Traceback" not in done.stderr
    return folder


def test_every_command_of_the_table_is_in_the_tour():
    table = set(re.findall(r"^\| `python -m ([\w.]+)` \|", README, re.M))
    assert table == {command[2] for command in _commands()}
    assert len(table) == 10


def test_the_tour_leaves_what_it_promises(tour: Path):
    image, text = (np.load(tour / "tour" / "embeddings" / f"{name}.npy") for name in ("image", "text"))
    assert image.shape == text.shape == (40, 64) and image.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(image, axis=1), 1.0, atol=1e-5)
    for name in ("retrieval/retrieval.json", "retrieval/retrieval.md", "classification/classification.json"):
        assert (tour / "tour" / name).stat().st_size > 0
    assert (tour / "tour" / "two" / "checkpoints" / "manifests" / "00000002.json").exists()


def test_the_python_lines_run(tour: Path, monkeypatch):
    monkeypatch.chdir(tour)
    names: dict = {}
    exec(_block("python"), names)
    assert len(names["ids"]) == len(names["best"]) == 40


def test_every_script_of_the_table_is_installed_by_pyproject():
    scripts = set(re.findall(r"`(cmr-[\w-]+)`", README))
    declared = (ROOT / "pyproject.toml").read_text()
    assert scripts and all(f"{name} = " in declared for name in scripts)


def test_make_targets_of_the_readme_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"make (\w+)", README)) <= targets

"""The shell of every binary: exit codes and what is printed."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
BINARIES = sorted(
    {
        target.split(":")[0]
        for target in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"].values()
    }
    | {"launch.local", "launch.preprocess_submitit"}
)

_PROGRAM = '''"""A program that says what it does."""
from absl import flags
from cmr_jax import cli
from cmr_jax.errors import InputError

_DEPTH = flags.DEFINE_integer("depth", 3, "How deep.")


def main():
    if _DEPTH.value < 0:
        raise InputError("the depth\\nis below 0")
    return _DEPTH.value % 3


cli.run(main)
'''


@pytest.fixture(name="run", scope="module")
def make_run(tmp_path_factory):
    path = tmp_path_factory.mktemp("cli") / "program.py"
    path.write_text(_PROGRAM)

    def run(*options: str) -> subprocess.CompletedProcess:
        return subprocess.run([sys.executable, str(path), *options], capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize("flag", ["--help", "--helpshort", "--helpfull"])
def test_help_explains_the_flags_and_exits_0(run, flag):
    done = run(flag)
    assert (done.returncode, done.stderr) == (0, "")
    assert "A program that says what it does." in done.stdout and "--depth: How deep." in done.stdout


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ([], 0, ""),
        (["--depth=4"], 1, ""),
        (["--depth=-1"], 2, "error: the depth is below 0\n"),
        (["--depht=1"], 2, "error: Unknown command line flag 'depht'. Did you mean: depth ? (see --help)\n"),
    ],
)
def test_the_exit_code_is_what_main_returns_and_a_mistake_is_one_line(run, options, code, message):
    done = run(*options)
    assert (done.returncode, done.stderr, done.stdout) == (code, message, "")


@pytest.mark.parametrize("module", BINARIES)
def test_every_binary_runs_in_this_shell(module):
    path = ROOT / module.replace(".", "/")
    source = (path / "__main__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
    assert "    cli.run(" in source and "app.run(" not in source

import pathlib
from collections.abc import Callable

import pytest

from tests.preprocessing.tiny_dicom import Cohort


@pytest.fixture(scope="session")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Read-only: six patients, published once in `out`."""
    made = Cohort(tmp_path_factory.mktemp("cohort"))
    made.key.write_text("0123456789abcdef0123456789abcdef")
    made.key.chmod(0o600)
    done = made.run("out")
    assert done.returncode == 0, done.stderr
    return made


@pytest.fixture
def own_cohort(tmp_path: pathlib.Path) -> Callable[..., Cohort]:
    """Makes cohorts that a test may spoil."""

    def make(patients: int = 6) -> Cohort:
        made = Cohort(tmp_path, patients)
        made.key.write_text("0123456789abcdef0123456789abcdef")
        made.key.chmod(0o600)
        return made

    return make

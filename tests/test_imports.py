"""Who may import whom (README, "Layout"). The rules are read off the source, not off what happens to be loaded."""

import ast
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
NUMPY_ONLY = {"numpy", "scipy", "sklearn", "matplotlib", "google_crc32c", "yaml", "tqdm", "threadpoolctl", "jinja2"}

# (file or folder, what of ours it may import). Prefixes; first match wins.
OURS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("cmr_jax/errors.py", ()),
    ("cmr_jax/cli.py", ("cmr_jax.errors",)),
    ("cmr_jax/config.py", ("cmr_jax.errors",)),
    ("cmr_jax/structs.py", ()),
    ("cmr_jax/rng.py", ()),
    ("cmr_jax/sharding.py", ("cmr_jax.config", "cmr_jax.errors")),
    ("cmr_jax/losses.py", ("cmr_jax.config", "cmr_jax.structs", "cmr_jax.sharding", "cmr_jax.ring")),
    ("cmr_jax/ring.py", ("cmr_jax.sharding",)),
    ("cmr_jax/optim.py", ("cmr_jax.config", "cmr_jax.structs", "cmr_jax.sharding", "cmr_jax.errors")),
    ("cmr_jax/models/", ("cmr_jax.config", "cmr_jax.structs", "cmr_jax.errors", "cmr_jax.models")),
    ("cmr_jax/data/schema.py", ()),
    ("cmr_jax/data/records.py", ("cmr_jax.data.schema", "cmr_jax.errors")),
    ("cmr_jax/data/", ("cmr_jax.config", "cmr_jax.structs", "cmr_jax.errors", "cmr_jax.data")),
    ("cmr_jax/train/", ("cmr_jax.config", "cmr_jax.structs", "cmr_jax.errors", "cmr_jax.data", "cmr_jax.models",
                        "cmr_jax.losses", "cmr_jax.optim", "cmr_jax.sharding", "cmr_jax.rng", "cmr_jax.train")),
    ("cmr_jax/evals/embed.py", ("cmr_jax",)),
    ("cmr_jax/evals/evaluators.py", ("cmr_jax",)),
    ("cmr_jax/evals/finetune.py", ("cmr_jax",)),
    ("cmr_jax/evals/", ("cmr_jax.evals", "cmr_jax.errors")),
    ("cmr_jax/bin/", ("cmr_jax",)),
    ("configs/", ("cmr_jax.config", "configs")),
    ("launch/", ("launch", "cmr_jax.cli", "cmr_jax.errors")),
    ("preprocessing/", ("preprocessing", "cmr_jax.data.schema", "cmr_jax.data.records", "cmr_jax.errors",
                        "cmr_jax.cli")),
)  # fmt: skip

# (package, the only places that may import it)
KEPT_IN: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("orbax", ("cmr_jax/train/checkpoint.py",)),
    ("ml_collections", ("configs/", "cmr_jax/bin/")),
    ("pydicom", ("preprocessing/",)),
    ("nibabel", ("preprocessing/public/",)),
    ("tensorflow_datasets", ("preprocessing/",)),
    ("tensorflow", ()),
    ("cmr_jax.bin", ("cmr_jax/bin/",)),
    ("configs", ("cmr_jax/bin/", "configs/")),
    ("flax", ("cmr_jax/models/",)),
    ("absl", ("cmr_jax/bin/", "cmr_jax/cli.py", "launch/", "preprocessing/run.py", "preprocessing/verify.py",
              "preprocessing/remove.py", "preprocessing/public/__main__.py",
              "preprocessing/phantom/__main__.py")),
)  # fmt: skip


def _sources() -> list[str]:
    folders = ("cmr_jax", "configs", "launch", "preprocessing")
    return sorted(str(p.relative_to(ROOT)) for folder in folders for p in (ROOT / folder).rglob("*.py"))


def _imports(source: str) -> set[str]:
    """The modules that a file imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _within(module: str, prefixes: tuple[str, ...]) -> bool:
    return any(module == p or module.startswith(p + ".") for p in prefixes)


def violations(path: str, source: str) -> list[str]:
    """What `path` imports against the rules."""
    wrong = []
    modules = _imports(source)
    allowed = next((names for prefix, names in OURS if path.startswith(prefix)), ("cmr_jax",))
    for module in sorted(modules):
        if module.split(".")[0] in ("cmr_jax", "preprocessing", "configs", "launch") and not _within(module, allowed):
            wrong.append(f"{path} imports {module}")
        wrong += [
            f"{path} imports {module}: {package} is kept to {places or 'no room of ours'}"
            for package, places in KEPT_IN
            if _within(module, (package,)) and not path.startswith(places or ("nowhere",))
        ]
    return wrong


def _numpy_only(path: str) -> bool:
    jax_rooms = ("cmr_jax/evals/embed.py", "cmr_jax/evals/evaluators.py", "cmr_jax/evals/finetune.py")
    return path == "cmr_jax/data/schema.py" or (path.startswith("cmr_jax/evals/") and path not in jax_rooms)


@pytest.mark.parametrize("path", _sources())
def test_imports_follow_the_rules(path: str):
    assert violations(path, (ROOT / path).read_text()) == []


@pytest.mark.parametrize("path", [p for p in _sources() if _numpy_only(p)])
def test_scoring_and_schema_need_numpy_alone(path: str):
    outside = {m.split(".")[0] for m in _imports((ROOT / path).read_text())} - {"cmr_jax"}
    assert outside - NUMPY_ONLY - set(sys.stdlib_module_names) == set()


@pytest.mark.parametrize("path", [p for p in _sources() if p.startswith("preprocessing/")])
def test_preprocessing_never_imports_jax(path: str):
    assert not {m for m in _imports((ROOT / path).read_text()) if m.split(".")[0] in ("jax", "flax", "optax", "orbax")}


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("cmr_jax/models/video.py", "from cmr_jax.train import loop"),
        ("cmr_jax/models/video.py", "from cmr_jax.sharding import make_mesh"),
        ("preprocessing/run.py", "from cmr_jax import losses"),
        ("cmr_jax/train/loop.py", "from cmr_jax.bin import train"),
        ("cmr_jax/train/state.py", "import orbax.checkpoint"),
        ("cmr_jax/evals/retrieval.py", "import tensorflow"),
    ],
)
def test_the_rules_catch_a_wrong_import(path: str, line: str):
    assert violations(path, line)

"""What a run's folder says of itself: `config.json` (settings, resolved) and the tokenizer of its model."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import jax
from jax.experimental import multihost_utils

from cmr_jax import config as config_lib
from cmr_jax.config import Config
from cmr_jax.data import records, schema
from cmr_jax.data.loader import Loader, check_names
from cmr_jax.data.records import Split
from cmr_jax.data.tokenizer import VOCAB, Tokenizer, saved_tokenizer
from cmr_jax.errors import InputError
from cmr_jax.models.build import Model, build
from cmr_jax.models.pretrained import starting_weights

CONFIG = "config.json"
# A run may be continued with these changed; anything else would silently be another experiment.
MAY_CHANGE = ("data.path", "data.num_threads", "data.prefetch", "mesh", "train.steps", "train.log_every")
MAY_CHANGE += ("train.checkpoint_every", "train.keep_checkpoints", "train.eval_every")
MAY_CHANGE += ("train.max_skipped", "train.spike_factor", "train.watchdog_seconds", "train.profile_")


@dataclasses.dataclass(frozen=True)
class Run:
    """A workdir opened: the resolved config, its model and its tokenizer."""

    workdir: Path
    config: Config
    model: Model
    tokenizer: Tokenizer

    def loader(self, data: str | Path, split: str) -> Loader:
        """Reads `split` of the dataset at `data` for this run's model; a dataset with another tokenizer is encoded anew
        from its text."""
        stored = records.load_manifest(data)["tokenizer"]["sha256"] == self.tokenizer.sha256
        return Loader(Split(data, split), self.tokenizer, self.config, stored)


def prepare(workdir: Path, config: Config) -> Run:
    """Makes `workdir` for `config`, or opens it again for the same config and data. Collective over processes.

    Raises:
      InputError: for a missing dataset, a vocabulary that does not fit, or a workdir of another experiment.
    """
    if not config.data.path:
        raise InputError("config.data.path is empty: give --config.data.path=DIR, the --out of preprocessing.run")
    check_names(config)
    _check_stated(config, records.load_manifest(config.data.path))
    if jax.process_index() == 0 and not (workdir / CONFIG).exists():
        _create(workdir, config)
    multihost_utils.sync_global_devices("workdir")
    run = load(workdir)
    _refuse_other(run.config, config)
    if read_about(workdir)["data_manifest_sha256"] != records.manifest_hash(config.data.path):
        raise InputError(f"{str(workdir)!r} was trained on another dataset: use another --workdir")
    text = dataclasses.replace(config.model.text, vocab_size=run.config.model.text.vocab_size)
    return dataclasses.replace(
        run, config=dataclasses.replace(config, model=dataclasses.replace(config.model, text=text))
    )


def _check_stated(config: Config, manifest: dict[str, Any]) -> None:
    """Raises InputError for a number that would never be learned, because no report of the dataset states it."""
    for name in config.model.numbers:
        if name not in manifest.get("label_names", ()):
            raise InputError(
                f"config.model.numbers names {name!r}, which no report of the dataset states: leave it out, or run"
                " preprocessing without --notext_labels"
            )


def _create(workdir: Path, config: Config) -> None:
    tokenizer = Tokenizer(_vocabulary(config))
    config = _resolve_vocab(config, tokenizer.vocab_size)
    # Read here for its complaints alone: what cannot be started from leaves no workdir behind.
    starting_weights(config.model, len(schema.VIEWS))
    workdir.mkdir(parents=True, exist_ok=True)
    tokenizer.save(workdir)
    about = {
        "schema": 1,
        "num_views": len(schema.VIEWS),
        "data_manifest_sha256": records.manifest_hash(config.data.path),
        "config": config_lib.to_dict(config),
    }
    # Renamed into place last: a workdir with a config.json is a complete one.
    temporary = workdir / (CONFIG + ".tmp")
    temporary.write_text(json.dumps(about, indent=1))
    temporary.replace(workdir / CONFIG)


def load(workdir: Path) -> Run:
    """Opens the workdir of an earlier run.

    Raises:
      InputError: where it is none.
    """
    about = read_about(workdir)
    config = config_lib.from_dict(about["config"])
    return Run(workdir, config, build(config.model, about["num_views"]), saved_tokenizer(workdir))


def read_about(workdir: Path) -> dict[str, Any]:
    """What `config.json` of a workdir holds.

    Raises:
      InputError: where there is none, or it cannot be read.
    """
    try:
        return json.loads((workdir / CONFIG).read_text())
    except FileNotFoundError:
        raise InputError(f"{str(workdir)!r} is no training workdir: it holds no {CONFIG}") from None
    except json.JSONDecodeError:
        raise InputError(f"{CONFIG} of {str(workdir)!r} is damaged") from None


def config_hash(workdir: Path) -> str:
    """SHA-256 of a workdir's `config.json`."""
    return hashlib.sha256((workdir / CONFIG).read_bytes()).hexdigest()


def locate(workdir: str | None, checkpoint: str | None, step: int | None) -> tuple[Path, int | None]:
    """The workdir and step that `--workdir`/`--step` or `--checkpoint` (a folder `…/checkpoints/00000400`) name.

    Raises:
      InputError: where not exactly one of the two is given, or the checkpoint is no such folder.
    """
    if bool(workdir) == bool(checkpoint):
        raise InputError("give either --workdir or --checkpoint")
    if workdir:
        return Path(workdir), step
    folder = Path(str(checkpoint)).absolute()
    if not folder.is_dir() or not folder.name.isdigit():
        raise InputError(f"--checkpoint {str(checkpoint)!r} is no folder such as WORKDIR/checkpoints/00000400")
    return folder.parent.parent, int(folder.name)


def _vocabulary(config: Config) -> Path:
    """The tokenizer file that the config asks for: its own vocabulary, that of the weights it starts from, or the
    data's."""
    text = config.model.text
    if text.vocab:
        return Path(text.vocab)
    of_weights = Path(text.init_from) / VOCAB
    return of_weights if text.init_from and of_weights.is_file() else Path(config.data.path) / schema.TOKENIZER


def _resolve_vocab(config: Config, vocab_size: int) -> Config:
    asked = config.model.text.vocab_size
    if asked and asked < vocab_size:
        raise InputError(f"config.model.text.vocab_size {asked} is smaller than the tokenizer's {vocab_size}")
    text = dataclasses.replace(config.model.text, vocab_size=asked or vocab_size)
    return dataclasses.replace(config, model=dataclasses.replace(config.model, text=text))


def _refuse_other(old: Config, new: Config) -> None:
    before, after = _flat(config_lib.to_dict(old)), _flat(config_lib.to_dict(new))
    for key, value in after.items():
        if key == "model.text.vocab_size" and value == 0:
            continue
        if not key.startswith(MAY_CHANGE) and before[key] != value:
            raise InputError(
                f"this workdir was trained with config.{key}={before[key]!r}, not {value!r}: use another --workdir"
            )


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in tree.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return out

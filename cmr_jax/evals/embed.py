"""Embeddings of a dataset, or of prompts, by a trained model: the step before any score."""

import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh
from tqdm import tqdm

from cmr_jax import config as config_lib
from cmr_jax import optim, sharding
from cmr_jax.config import MeshConfig
from cmr_jax.data import records
from cmr_jax.data.loader import Loader, check_views, eval_rows
from cmr_jax.data.order import host_rows
from cmr_jax.errors import InputError
from cmr_jax.evals import partial
from cmr_jax.evals.export import Embeddings
from cmr_jax.models.build import Model
from cmr_jax.models.target import compiled_for
from cmr_jax.structs import Batch, Params
from cmr_jax.train import workdir as workdir_lib
from cmr_jax.train.checkpoint import Checkpoints
from cmr_jax.train.state import abstract_params, abstract_state

# What a record says of the study beside its labels.
ATTRIBUTES = ("sex", "age", "vendor")
_IDS = "ids.json"


def embed_split(
    model: Model,
    params: Params,
    loader: Loader,
    mesh: Mesh,
    *,
    batch_size: int = 32,
    progress: bool = False,
    rows: range | None = None,
    place: partial.Place | None = None,
    between: Callable[[], None] = lambda: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Unit float32 image and text embeddings of the studies `rows` of a split (default: all), in order: `N E` each.

    Collective over the processes of `mesh`: each loads its part of each batch and gets the whole result. With `place`
    they are written there batch by batch, after what an earlier call has left. `between` is called before every batch.
    """
    constrain = sharding.batch_constraint(mesh)
    batch_size = -(-batch_size // mesh.size) * mesh.size
    rows = range(len(loader.split)) if rows is None else rows
    together = len({device.process_index for device in mesh.devices.flat}) > 1
    share = (jax.process_index(), jax.process_count()) if together else (0, 1)

    def both(params, batch):
        with compiled_for(mesh, sharding.batch_axes(mesh)):
            out = model.apply(params, batch, constrain=constrain)
        return out["image_embedding"], out["text_embedding"]

    run = jax.jit(both, out_shardings=sharding.replicated(mesh))
    place = place or partial.in_memory(len(rows), model.config.embed_dim)
    batches = list(eval_rows(len(rows), batch_size))
    # A batch that was cut short by a stop is made anew; the last one, short by nature, is not.
    first = len(batches) if place.done >= len(rows) else place.done // batch_size

    def load(number: int) -> Batch:
        return loader.batch(host_rows(rows.start + batches[number][0], *share))

    data = loader.config.data
    options = grain.ReadOptions(num_threads=data.num_threads, prefetch_buffer_size=data.prefetch)
    ahead = iter(grain.MapDataset.range(first, len(batches)).map(load).to_iter_dataset(options))
    numbers = range(first, len(batches))
    shown = tqdm(numbers, unit="batch", desc=f"embed {loader.split.name}", disable=None if progress else True)
    waiting: list[tuple[int, Any]] = []

    def write() -> None:
        number, (image, text) = waiting.pop(0)
        real = batches[number][1]
        place.put(number * batch_size, np.asarray(image)[:real], np.asarray(text)[:real])

    for number in shown:
        between()
        waiting.append((number, run(params, sharding.put_batch(next(ahead), mesh))))
        # A batch is fetched when the next one is on its way. Processes that work together take one after the other.
        while len(waiting) > (0 if together else 1):
            write()
    while waiting:
        write()
    return place.image_NE, place.text_NE


def embed_dataset(
    *,
    workdir: str | None = None,
    checkpoint: str | None = None,
    data: str,
    splits: Sequence[str] = ("test",),
    step: int | None = None,
    hidden_views: Sequence[str] = (),
    keep: str | Path | None = None,
) -> Embeddings:
    """Embeds `splits` of the dataset at `data` with the newest undamaged checkpoint, or that of `step`, as if no study
    had a series of `hidden_views`. With `keep`, a folder, the arrays are memory-mapped there, and a call that was
    stopped continues; the folder is the caller's to remove.

    Raises:
      InputError: for anything that is missing, damaged or does not fit, and for no study at all.
    """
    job = _prepare(workdir, checkpoint, step, data, splits, hidden_views)
    place = partial.in_memory(job.total, job.width)
    if keep is not None:
        place = partial.on_disk(Path(keep), job.key, job.total, job.width)
    ids = job.embed(range(job.total), place)
    return Embeddings(image_NE=place.image_NE, text_NE=place.text_NE, ids=ids, manifest=job.manifest)


def embed_together(
    *,
    workdir: str | None = None,
    checkpoint: str | None = None,
    data: str,
    splits: Sequence[str] = ("test",),
    step: int | None = None,
    hidden_views: Sequence[str] = (),
    keep: str | Path,
) -> Embeddings | None:
    """`embed_dataset` by all processes of a job. Each embeds a stretch of the studies, by itself on its own devices,
    into a part of `keep`, a folder that all must reach; process 0 joins the parts, the others return None.

    Raises:
      InputError: as `embed_dataset`, and where process 0 does not find the parts.
    """
    job = _prepare(workdir, checkpoint, step, data, splits, hidden_views)
    params, mesh = _on_own_devices(job.params)
    job = dataclasses.replace(job, params=params, mesh=mesh)
    parts, process = _Parts(Path(keep), job.key, job.total, job.width), jax.process_index()
    parts.write_ids(process, job.embed(parts.stretch(process), parts.place(process)))
    multihost_utils.sync_global_devices("embedded")
    return parts.join(job.manifest) if process == 0 else None


@dataclasses.dataclass(frozen=True)
class _Job:
    """A model and what it is to embed: the studies of `loaders`, one split after the other. `key`: what makes it this
    job and no other."""

    run: workdir_lib.Run
    params: Params
    mesh: Mesh
    loaders: Sequence[Loader]
    label_names: Sequence[str]
    key: dict[str, Any]
    manifest: dict[str, Any]

    @property
    def total(self) -> int:
        return sum(len(loader.split) for loader in self.loaders)

    @property
    def width(self) -> int:
        return self.run.model.config.embed_dim

    def embed(self, rows: range, place: partial.Place) -> dict[str, list[str]]:
        """Embeds `rows` of all studies into `place`; returns their columns of ids.csv."""
        columns = ["row", "study_id", "patient_id", "split", "report_hash", *self.label_names, *ATTRIBUTES]
        ids: dict[str, list[str]] = {name: [] for name in columns}
        first = 0
        for loader in self.loaders:
            size, done = len(loader.split), len(ids["row"])
            part = range(min(max(rows.start - first, 0), size), min(max(rows.stop - first, 0), size))
            here = place.part(done, len(part))
            embed_split(self.run.model, self.params, loader, self.mesh, progress=True, rows=part, place=here)
            for row in part:
                ids["row"].append(str(first + row))
                _add_ids(ids, loader.split[row], loader.split.name, self.label_names)
            first += size
        return ids


def _prepare(
    workdir: str | None,
    checkpoint: str | None,
    step: int | None,
    data: str,
    splits: Sequence[str],
    hidden_views: Sequence[str],
) -> _Job:
    check_views("--hide_views", hidden_views)
    run, params, mesh, origin = open_run(workdir, checkpoint, step)
    about = records.load_manifest(data)
    loaders = [dataclasses.replace(run.loader(data, each), hidden_views=tuple(hidden_views)) for each in splits]
    total = sum(len(loader.split) for loader in loaders)
    if not total:
        raise InputError(f"no study in {', '.join(splits)}: choose another --split")
    manifest = {
        "schema": 1,
        "n": total,
        **origin,
        "data_manifest_sha256": records.manifest_hash(data),
        "data_counts": about.get("counts", {}),
        "config": _without_paths(config_lib.to_dict(run.config)),
        "splits": list(splits),
        **({"hidden_views": list(hidden_views)} if hidden_views else {}),
    }
    key = {**origin, "data": records.manifest_hash(data), "splits": list(splits), "hidden": list(hidden_views)}
    return _Job(run, params, mesh, loaders, about["label_names"], key, manifest)


@dataclasses.dataclass(frozen=True)
class _Parts:
    """What each of several processes embeds: a stretch of all rows, in a folder of its own below `folder`."""

    folder: Path
    key: dict[str, Any]
    total: int
    width: int

    def stretch(self, process: int) -> range:
        edges = [self.total * each // jax.process_count() for each in (process, process + 1)]
        return range(*edges)

    def _folder(self, process: int) -> Path:
        return self.folder / f"part-{process:05d}-of-{jax.process_count():05d}"

    def place(self, process: int) -> partial.Place:
        rows = self.stretch(process)
        return partial.on_disk(self._folder(process), self.key, len(rows), self.width)

    def write_ids(self, process: int, ids: dict[str, list[str]]) -> None:
        partial.write_json(self._folder(process) / _IDS, ids)

    def join(self, manifest: dict[str, Any]) -> Embeddings:
        """The rows of all parts, each of which must be whole and of the same checkpoint and data.

        Raises:
          InputError: where a part is not: the processes do not see one folder.
        """
        image, text, ids = [], [], {}
        for process in range(jax.process_count()):
            rows, folder = self.stretch(process), self._folder(process)
            if partial.done(folder, self.key) != len(rows) or not (folder / _IDS).is_file():
                raise InputError(
                    f"process 0 does not find all that process {process} has embedded: --out must be on a file system "
                    "that all processes share"
                )
            place = self.place(process)
            image.append(place.image_NE)
            text.append(place.text_NE)
            for name, column in json.loads((folder / _IDS).read_text(encoding="utf-8")).items():
                ids.setdefault(name, []).extend(column)
        return Embeddings(image_NE=np.concatenate(image), text_NE=np.concatenate(text), ids=ids, manifest=manifest)


def _on_own_devices(params: Params) -> tuple[Params, Mesh]:
    """Parameters that every process holds, as arrays of this process's devices alone, and the mesh of these."""
    mesh = sharding.make_mesh(MeshConfig(), jax.local_devices())
    own = jax.tree.map(lambda leaf: np.asarray(leaf.addressable_data(0)), params)
    return jax.device_put(own, sharding.replicated(mesh)), mesh


def embed_prompts(
    prompts: list[str], *, workdir: str | None = None, checkpoint: str | None = None, step: int | None = None
) -> np.ndarray:
    """Unit float32 text embeddings of free sentences: `N E`."""
    return prompt_encoder(workdir=workdir, checkpoint=checkpoint, step=step)(prompts)


def prompt_encoder(
    *, workdir: str | None = None, checkpoint: str | None = None, step: int | None = None
) -> Callable[[list[str]], np.ndarray]:
    """What makes unit float32 text embeddings of free sentences, `N E`, with the checkpoint read once."""
    run, params, _, _ = open_run(workdir, checkpoint, step)
    encode = jax.jit(run.model.encode_text)

    def embed(prompts: list[str]) -> np.ndarray:
        framed = [run.tokenizer.frame(run.tokenizer.encode(text), run.config.model.text.length) for text in prompts]
        tokens_NL, mask_NL = (np.stack(part) for part in zip(*framed, strict=True))
        return np.asarray(encode(params, tokens_NL, mask_NL))

    return embed


def open_run(
    workdir: str | None, checkpoint: str | None, step: int | None
) -> tuple[workdir_lib.Run, Params, Mesh, dict[str, Any]]:
    """The run, its parameters (averaged, where it averages) over this machine's devices, and where they come from."""
    folder, step = workdir_lib.locate(workdir, checkpoint, step)
    run = workdir_lib.load(folder)
    mesh = sharding.make_mesh(MeshConfig())
    checkpoints = Checkpoints(folder / "checkpoints")
    found = checkpoints.newest_whole() if step is None else step
    if found is None:
        raise InputError(f"{str(folder)!r} holds no undamaged checkpoint: train first")
    if run.config.optim.ema_decay:
        optimizer = optim.make_optimizer(run.config.optim, run.config.train.steps)
        state = checkpoints.restore(found, abstract_state(run.model, optimizer, mesh))
        params = optim.averaged(state.params, state.opt_state)
    else:
        params = checkpoints.restore_params(found, abstract_params(run.model, mesh))
    origin = {
        "checkpoint_step": found,
        "checkpoint_sha256": checkpoints.fingerprint(found),
        "config_sha256": workdir_lib.config_hash(Path(folder)),
    }
    return run, params, mesh, origin


def _without_paths(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings with every text that may be a place on a disk withheld: embeddings are passed on."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: plain(each) for name, each in value.items()}
        return "(a path)" if isinstance(value, str) and ("/" in value or os.sep in value) else value

    return plain(settings) | {"data": plain(settings["data"]) | {"path": "(a path)"}}


def _add_ids(ids: dict[str, list[str]], example: records.Example, split: str, label_names: Sequence[str]) -> None:
    labels = dict(zip(example["label/name"], example["label/value"], strict=True))
    ids["split"].append(split)
    for name in ("study_id", "patient_id", "report_hash"):
        ids[name].append(example[name])
    for name in label_names:
        ids[name].append(labels.get(name, ""))
    # For figures of groups; a label of the same name stands.
    for name in set(ATTRIBUTES) - set(label_names):
        ids[name].append(example[name])

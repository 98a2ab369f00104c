"""Embeddings of a dataset, or of prompts, by a trained model: the step before any score."""

import dataclasses
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
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
from cmr_jax.structs import Params
from cmr_jax.train import workdir as workdir_lib
from cmr_jax.train.checkpoint import Checkpoints
from cmr_jax.train.state import abstract_params, abstract_state

# What a record says of the study beside its labels.
ATTRIBUTES = ("sex", "age", "vendor")


def embed_split(
    model: Model,
    params: Params,
    loader: Loader,
    mesh: Mesh,
    *,
    batch_size: int = 32,
    progress: bool = False,
    place: partial.Place | None = None,
    between: Callable[[], None] = lambda: None,
) -> tuple[np.ndarray, np.ndarray]:
    """Unit float32 image and text embeddings of every study of a split, in row order: `N E` each.

    Collective: every process loads its part of each batch and gets the whole result. With `place` they are written
    there batch by batch, after what an earlier call has left. `between` is called before every batch.
    """
    constrain = sharding.batch_constraint(mesh)
    batch_size = -(-batch_size // mesh.size) * mesh.size

    def both(params, batch):
        out = model.apply(params, batch, constrain=constrain)
        return out["image_embedding"], out["text_embedding"]

    run = jax.jit(both, out_shardings=sharding.replicated(mesh))
    place = place or partial.in_memory(len(loader.split), model.config.embed_dim)
    batches = list(enumerate(eval_rows(len(loader.split), batch_size)))[place.done // batch_size :]
    shown = tqdm(batches, unit="batch", desc=f"embed {loader.split.name}", disable=None if progress else True)
    for number, (rows, real) in shown:
        between()
        mine = host_rows(rows, jax.process_index(), jax.process_count())
        image, text = run(params, sharding.put_batch(loader.batch(mine), mesh))
        place.put(number * batch_size, np.asarray(image)[:real], np.asarray(text)[:real])
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
    check_views("--hide_views", hidden_views)
    run, params, mesh, origin = open_run(workdir, checkpoint, step)
    label_names = records.load_manifest(data)["label_names"]
    columns = ["row", "study_id", "patient_id", "split", "report_hash", *label_names, *ATTRIBUTES]
    ids: dict[str, list[str]] = {name: [] for name in columns}
    loaders = [dataclasses.replace(run.loader(data, each), hidden_views=tuple(hidden_views)) for each in splits]
    total = sum(len(loader.split) for loader in loaders)
    if not total:
        raise InputError(f"no study in {', '.join(splits)}: choose another --split")
    key = {**origin, "data": records.manifest_hash(data), "splits": list(splits), "hidden": list(hidden_views)}
    width = run.model.config.embed_dim
    whole = partial.in_memory(total, width) if keep is None else partial.on_disk(Path(keep), key, total, width)
    first = 0
    for loader, split in zip(loaders, splits, strict=True):
        embed_split(run.model, params, loader, mesh, progress=True, place=whole.part(first, len(loader.split)))
        first += len(loader.split)
        for row in range(len(loader.split)):
            _add_ids(ids, loader.split[row], split, label_names)
    manifest = {
        "schema": 1,
        "n": total,
        **origin,
        "data_manifest_sha256": records.manifest_hash(data),
        "data_counts": records.load_manifest(data).get("counts", {}),
        "config": _without_paths(config_lib.to_dict(run.config)),
        "splits": list(splits),
        **({"hidden_views": list(hidden_views)} if hidden_views else {}),
    }
    return Embeddings(image_NE=whole.image_NE, text_NE=whole.text_NE, ids=ids, manifest=manifest)


def embed_prompts(
    prompts: list[str], *, workdir: str | None = None, checkpoint: str | None = None, step: int | None = None
) -> np.ndarray:
    """Unit float32 text embeddings of free sentences: `N E`."""
    run, params, _, _ = open_run(workdir, checkpoint, step)
    framed = [run.tokenizer.frame(run.tokenizer.encode(text), run.config.model.text.length) for text in prompts]
    tokens_NL, mask_NL = (np.stack(part) for part in zip(*framed, strict=True))
    return np.asarray(jax.jit(run.model.encode_text)(params, tokens_NL, mask_NL))


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
    ids["row"].append(str(len(ids["row"])))
    ids["split"].append(split)
    for name in ("study_id", "patient_id", "report_hash"):
        ids[name].append(example[name])
    for name in label_names:
        ids[name].append(labels.get(name, ""))
    # For figures of groups; a label of the same name stands.
    for name in set(ATTRIBUTES) - set(label_names):
        ids[name].append(example[name])

"""Embeddings of a dataset, or of prompts, by a trained model: the step before any score."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from tqdm import tqdm

from cmr_jax import optim, sharding
from cmr_jax.config import MeshConfig
from cmr_jax.data import records
from cmr_jax.data.loader import Loader, eval_rows
from cmr_jax.data.order import host_rows
from cmr_jax.errors import InputError
from cmr_jax.evals.export import Embeddings
from cmr_jax.models.build import Model
from cmr_jax.structs import Params
from cmr_jax.train import workdir as workdir_lib
from cmr_jax.train.checkpoint import Checkpoints
from cmr_jax.train.state import abstract_state


def embed_split(
    model: Model, params: Params, loader: Loader, mesh: Mesh, *, batch_size: int = 32, progress: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """Unit float32 image and text embeddings of every study of a split, in row order: `N E` each.

    Collective: every process loads its part of each batch and gets the whole result.
    """
    constrain = sharding.batch_constraint(mesh)
    batch_size = -(-batch_size // mesh.size) * mesh.size

    def both(params, batch):
        out = model.apply(params, batch, constrain=constrain)
        return out["image_embedding"], out["text_embedding"]

    run = jax.jit(both, out_shardings=sharding.replicated(mesh))
    images, texts = [], []
    batches = list(eval_rows(len(loader.split), batch_size))
    shown = tqdm(batches, unit="batch", desc=f"embed {loader.split.name}", disable=None if progress else True)
    for rows, real in shown:
        mine = host_rows(rows, jax.process_index(), jax.process_count())
        image, text = run(params, sharding.put_batch(loader.batch(mine), mesh))
        images.append(np.asarray(image)[:real])
        texts.append(np.asarray(text)[:real])
    width = model.config.embed_dim
    return np.concatenate([np.zeros((0, width), np.float32), *images]), np.concatenate(
        [np.zeros((0, width), np.float32), *texts]
    )


def embed_dataset(
    *,
    workdir: str | None = None,
    checkpoint: str | None = None,
    data: str,
    splits: Sequence[str] = ("test",),
    step: int | None = None,
) -> Embeddings:
    """Embeds `splits` of the dataset at `data` with the newest undamaged checkpoint, or that of `step`.

    Raises:
      InputError: for anything that is missing, damaged or does not fit, and for no study at all.
    """
    run, params, mesh, origin = _open(workdir, checkpoint, step)
    label_names = records.load_manifest(data)["label_names"]
    columns = ["row", "study_id", "patient_id", "split", "report_hash", *label_names]
    ids: dict[str, list[str]] = {name: [] for name in columns}
    images, texts = [], []
    for split in splits:
        loader = run.loader(data, split)
        image, text = embed_split(run.model, params, loader, mesh, progress=True)
        images.append(image)
        texts.append(text)
        for row in range(len(loader.split)):
            _add_ids(ids, loader.split[row], split, label_names)
    if not ids["row"]:
        raise InputError(f"no study in {', '.join(splits)}: choose another --split")
    manifest = {
        "schema": 1,
        "n": len(ids["row"]),
        **origin,
        "data_manifest_sha256": records.manifest_hash(data),
        "splits": list(splits),
    }
    return Embeddings(image_NE=np.concatenate(images), text_NE=np.concatenate(texts), ids=ids, manifest=manifest)


def embed_prompts(
    prompts: list[str], *, workdir: str | None = None, checkpoint: str | None = None, step: int | None = None
) -> np.ndarray:
    """Unit float32 text embeddings of free sentences: `N E`."""
    run, params, _, _ = _open(workdir, checkpoint, step)
    framed = [run.tokenizer.frame(run.tokenizer.encode(text), run.config.model.text.length) for text in prompts]
    tokens_NL, mask_NL = (np.stack(part) for part in zip(*framed, strict=True))
    return np.asarray(jax.jit(run.model.encode_text)(params, tokens_NL, mask_NL))


def _open(
    workdir: str | None, checkpoint: str | None, step: int | None
) -> tuple[workdir_lib.Run, Params, Mesh, dict[str, Any]]:
    """The run, its parameters spread over this machine's devices, and where they come from."""
    folder, step = workdir_lib.locate(workdir, checkpoint, step)
    run = workdir_lib.load(folder)
    mesh = sharding.make_mesh(MeshConfig())
    checkpoints = Checkpoints(folder / "checkpoints")
    found = checkpoints.newest_whole() if step is None else step
    if found is None:
        raise InputError(f"{str(folder)!r} holds no undamaged checkpoint: train first")
    optimizer = optim.make_optimizer(run.config.optim, run.config.train.steps)
    state = checkpoints.restore(found, abstract_state(run.model, optimizer, mesh))
    origin = {
        "checkpoint_step": found,
        "checkpoint_sha256": checkpoints.fingerprint(found),
        "config_sha256": workdir_lib.config_hash(Path(folder)),
    }
    return run, state.params, mesh, origin


def _add_ids(ids: dict[str, list[str]], example: records.Example, split: str, label_names: Sequence[str]) -> None:
    labels = dict(zip(example["label/name"], example["label/value"], strict=True))
    ids["row"].append(str(len(ids["row"])))
    ids["split"].append(split)
    for name in ("study_id", "patient_id", "report_hash"):
        ids[name].append(example[name])
    for name in label_names:
        ids[name].append(labels.get(name, ""))

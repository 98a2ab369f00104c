"""The image tower fine-tuned on a label: what a checkpoint can be made to tell, beside what it tells frozen.

A linear head stands on the unit image embedding, standardised by the training studies as the checkpoint embeds them. It
starts at zero and learns at `HEAD_RATE`; the tower and its projection learn at a tenth of the rate they were trained
with, the text tower stays out. AdamW, softmax cross-entropy, augmented as in training. After each epoch the log loss of
the studies that choose is taken: the best epoch is kept, and `PATIENCE` epochs without a better one end it. The
threshold comes from the same studies. They are the validation split, or, where that is too small, a part of the
training patients who are then not trained on. The test split is only scored.

The outcome is a function of checkpoint, data and seed.

Letters: N studies of the embeddings, B batch, E embedding, P classes that training has.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, cast

import grain
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from cmr_jax import optim, rng, sharding
from cmr_jax.data import records
from cmr_jax.data.loader import Loader, eval_rows
from cmr_jax.errors import InputError
from cmr_jax.evals import embed, protocols
from cmr_jax.evals.binary import youden_threshold
from cmr_jax.evals.protocols import Fit, Task
from cmr_jax.models.build import Model
from cmr_jax.structs import Batch, Params

EPOCHS = 20
PATIENCE = 5
HEAD_RATE = 1e-2
TOWER_SHARE = 0.1
BATCH_SIZE = 32
_WARM_UP = 0.1
# Of a feature of the unit embedding, as a share of what it has where all directions are alike.
_LEAST_SPREAD = 0.3
_WEIGHT_DECAY = 0.01
_TOWER = ("image", "image_projection")

Watch = Callable[[str, Iterable[Any]], Iterable[Any]]


def fine_tuner(
    *,
    workdir: str | None = None,
    checkpoint: str | None = None,
    step: int | None = None,
    data: str,
    study_ids: Sequence[str],
    epochs: int = EPOCHS,
    seed: int = 0,
    watch: Watch = lambda _, steps: steps,
) -> Callable[[Task], Fit]:
    """What fine-tunes the checkpoint anew for each task. Row i of the tasks is the study `study_ids[i]` of `data`.

    Raises:
      InputError: for a run or dataset that cannot be opened; when called, for studies that the dataset has not.
    """
    run, params, mesh, _ = embed.open_run(workdir, checkpoint, step)
    splits = [records.Split(data, name) for name in records.load_manifest(data)["splits"]]
    loader = dataclasses.replace(run.loader(data, splits[0].name), split=cast(records.Split, _Joined(splits)))
    # Its augmentations are drawn by the loader's seed.
    train = dataclasses.replace(run.config.train, seed=seed)
    loader = dataclasses.replace(loader, config=dataclasses.replace(run.config, train=train))
    place = {loader.split[row]["study_id"]: row for row in range(len(loader.split))}
    rows_N = np.array([place.get(study, -1) for study in study_ids])
    rate = TOWER_SHARE * run.config.optim.learning_rate
    return functools.partial(_fine_tune, _Setting(run.model, params, mesh, loader, rows_N, rate, epochs, seed, watch))


class _Joined:
    """The studies of several splits, one after the other."""

    name = "all"

    def __init__(self, splits: Sequence[records.Split]):
        self._splits = splits
        self._starts = np.cumsum([0, *map(len, splits)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, row: int) -> records.Example:
        number = int(np.searchsorted(self._starts, row, side="right")) - 1
        return self._splits[number][row - int(self._starts[number])]


@dataclasses.dataclass(frozen=True)
class _Setting:
    """`rows_N`: the loader's row of each study of the embeddings, -1 where it has none."""

    model: Model
    params: Params
    mesh: Mesh
    loader: Loader
    rows_N: np.ndarray
    tower_rate: float
    epochs: int
    seed: int
    watch: Watch

    @property
    def batch_size(self) -> int:
        return -(-BATCH_SIZE // self.mesh.size) * self.mesh.size

    def features(self, tower: Params, batch: Batch, key: jax.Array | None) -> jax.Array:
        """Unit `B E` by the tower of `tower`, which may hold a head too."""
        params = {**self.params, **{name: tower[name] for name in _TOWER}}
        return self.model.encode_image(params, batch, key=key, constrain=sharding.batch_constraint(self.mesh))

    def over(self, rows: np.ndarray, function: Callable[[Batch], jax.Array]) -> np.ndarray:
        """`function` of the studies `rows` of the embeddings, in order."""
        wanted, found = self.rows_N[rows], []
        for places, real in eval_rows(len(rows), self.batch_size):
            batch = sharding.put_batch(self.loader.batch(wanted[places]), self.mesh)
            found.append(np.asarray(function(batch))[:real])
        return np.concatenate(found)

    def training(self, rows: np.ndarray, steps: int) -> Iterator[tuple[np.ndarray, Batch]]:
        """Places in `rows` and their augmented studies, an epoch after the other, read ahead by a thread."""
        size, each = self.batch_size, -(-len(rows) // self.batch_size)

        def load(step: int) -> tuple[np.ndarray, Batch]:
            order = np.random.default_rng([self.seed, step // each]).permutation(len(rows))
            # The last batch of an epoch is filled from the epoch's beginning, so that all are of one size.
            places = np.take(order, np.arange(size) + step % each * size, mode="wrap")
            return places, self.loader.batch(self.rows_N[rows[places]], step=step)

        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=2)
        return iter(grain.MapDataset.range(steps).map(load).to_iter_dataset(options))


def _fine_tune(setting: _Setting, task: Task) -> Fit:
    label = task.label
    used = np.concatenate([task.train, task.val, task.test])
    if lacking := int(np.count_nonzero(setting.rows_N[used] < 0)):
        raise InputError(
            f"finetune: {lacking} of {len(used)} studies of the embeddings are not in --data: give the dataset that "
            "they were made of"
        )
    if len(np.unique(label.codes[task.train])) < 2:
        return protocols.unscored(task, "fewer than two classes in the training split")
    parts = protocols.held_out(task)
    if parts is None:
        return protocols.unscored(task, "too few training patients to stop early, and too few validation studies")
    fit, choose, where = parts
    present = np.unique(label.codes[fit])
    predict, epoch = _train(setting, task, fit, choose, present)
    chosen_MC, test_NC = (predict(rows) for rows in (choose, task.test))
    questions = list(label.questions)
    threshold_Q = [youden_threshold(label.codes[choose] == q, chosen_MC[:, q]) for q in questions]
    said = f"{epoch} of {setting.epochs} epochs, chosen on {where}"
    return Fit(test_NC[:, questions], test_NC[:, questions], np.array(threshold_Q), (said,))


def _train(
    setting: _Setting, task: Task, fit: np.ndarray, choose: np.ndarray, present: np.ndarray
) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    """What gives the probabilities of all classes of the label (NaN: training has it not) for rows of the embeddings,
    and the number of the epoch that it is of (0: the start, which tells nothing)."""
    codes = np.searchsorted(present, task.label.codes[fit])
    tower = {name: setting.params[name] for name in _TOWER}
    embedding_NE = setting.over(fit, jax.jit(lambda batch: setting.features(tower, batch, None)))
    centre_E, spread_E = embedding_NE.mean(axis=0), embedding_NE.std(axis=0)
    # A tower that tells studies hardly apart would be made to shout by its noise.
    spread_E = np.maximum(spread_E, np.float32(_LEAST_SPREAD / np.sqrt(len(spread_E))))
    head = {"kernel": np.zeros((len(centre_E), len(present)), np.float32), "bias": np.zeros(len(present), np.float32)}
    each = -(-len(fit) // setting.batch_size)
    optimizer = _optimizer(setting.tower_rate, each * setting.epochs)

    def logits(tuned: Params, batch: Batch, key: jax.Array | None) -> jax.Array:
        feature_BE = (setting.features(tuned, batch, key) - centre_E[None, :]) / spread_E[None, :]
        return feature_BE @ tuned["head"]["kernel"] + tuned["head"]["bias"][None, :]

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(tuned: Params, state: Any, batch: Batch, codes_B: jax.Array, number: jax.Array):
        def loss(tuned: Params) -> jax.Array:
            key = rng.stream(setting.seed, "finetune", number)
            return optax.softmax_cross_entropy_with_integer_labels(logits(tuned, batch, key), codes_B).mean()

        grads = jax.grad(loss)(tuned)
        # optax raises a Python float to the power of its int32 counter, which strict promotion forbids.
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(grads, state, tuned)
        return optax.apply_updates(tuned, updates), state

    probabilities = jax.jit(lambda tuned, batch: jax.nn.softmax(logits(tuned, batch, None)))

    def predict(tuned: Params, rows: np.ndarray) -> np.ndarray:
        out = np.full((len(rows), len(task.label.classes)), np.nan)
        out[:, present] = setting.over(rows, functools.partial(probabilities, tuned))
        return out

    def chosen(tuned: Params) -> float:
        return protocols.log_loss_of(task.label.codes[choose], predict(tuned, choose)[:, present], present)

    # A copy: the step gives its buffers away, and the next label starts from the same parameters.
    tuned = jax.tree.map(jnp.array, {**tower, "head": head})
    state = jax.jit(optimizer.init)(tuned)
    best, best_loss, best_epoch = jax.device_get(tuned), chosen(tuned), 0
    steps = setting.watch(f"finetune {task.label.name}", range(each * setting.epochs))
    for number, (places, batch) in zip(steps, setting.training(fit, each * setting.epochs), strict=True):
        put = sharding.put_batch((batch, codes[places].astype(np.int32)), setting.mesh)
        tuned, state = step(tuned, state, *put, np.int32(number))
        epoch, within = divmod(number + 1, each)
        if within:
            continue
        if (loss := chosen(tuned)) < best_loss:
            best, best_loss, best_epoch = jax.device_get(tuned), loss, epoch
        elif epoch - best_epoch >= PATIENCE:
            break
    return functools.partial(predict, jax.tree.map(jnp.array, best)), best_epoch


def _optimizer(tower_rate: float, steps: int) -> optax.GradientTransformation:
    def adamw(rate: float) -> optax.GradientTransformation:
        schedule = optax.warmup_cosine_decay_schedule(0.0, rate, max(1, round(_WARM_UP * steps)), max(2, steps))
        return optax.adamw(schedule, weight_decay=_WEIGHT_DECAY, mask=optim.decay_mask)

    labels = dict.fromkeys(_TOWER, "tower") | {"head": "head"}
    parts = optax.multi_transform({"tower": adamw(tower_rate), "head": adamw(HEAD_RATE)}, labels)
    return optax.chain(optax.clip_by_global_norm(1.0), parts)

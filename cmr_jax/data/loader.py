"""Batches: rows by the global order, records by random access, threads that read ahead."""

import dataclasses
import functools
from collections.abc import Iterable, Iterator

import grain
import numpy as np

from cmr_jax.config import Config
from cmr_jax.data import concat, order, schema, text_parts, transforms
from cmr_jax.data.records import Example, Split
from cmr_jax.data.tokenizer import Tokenizer
from cmr_jax.errors import InputError, nearest
from cmr_jax.structs import Batch

# Generators beside that of the augmentations, so that a setting of one leaves the others' draws as they were.
_VIEWS, _TEXT = 1, 2


def check_names(config: Config) -> None:
    """Raises InputError for a view, section or number that no record can have, naming the nearest that it can."""
    data = config.data
    _check_known("config.model.numbers", config.model.numbers, tuple(schema.NUMBERS))
    check_views("config.data.views", data.views)
    check_views("config.data.fallback_views", data.fallback_views)
    _check_known("config.data.sections", data.sections, schema.SECTIONS)


def check_views(where: str, views: Iterable[str]) -> None:
    """Raises InputError for a view that no record can have."""
    _check_known(where, views, schema.VIEWS)


def _check_known(where: str, names: Iterable[str], known: tuple[str, ...]) -> None:
    for name in names:
        if name not in known:
            raise InputError(f"{where} has no {name!r}{nearest(name, known)}")


@dataclasses.dataclass(frozen=True)
class Loader:
    """Reads `split` for `config`. `tokenizer` is the model's own; `stored_tokens` says that the records' token ids are
    its (same SHA-256), else the sections' text is encoded anew. Series of `hidden_views` are not there."""

    split: Split
    tokenizer: Tokenizer
    config: Config
    stored_tokens: bool
    hidden_views: tuple[str, ...] = ()

    def batch(self, rows_B: np.ndarray, *, step: int | None = None, first: int = 0) -> Batch:
        """The studies at `rows_B` as host arrays.

        With `step` the draw is a training draw: place `first + i` of step's global batch is augmented by a generator
        of (seed, step, place), whichever host loads it.
        """
        studies = []
        for place, row in enumerate(rows_B):
            draw = None if step is None else (self.config.train.seed, step, first + place)
            studies.append(self._study(int(row), draw))
        return Batch(**{name: np.stack([study[name] for study in studies]) for name in studies[0]})

    @functools.cached_property
    def _partner(self) -> np.ndarray:
        return order.shuffled_partner(len(self.split), self.config.train.seed)

    def _study(self, row: int, draw: tuple[int, int, int] | None) -> dict[str, np.ndarray]:
        data, example = self.config.data, self.split[row]
        told = self.split[int(self._partner[row])] if draw and data.shuffle_pairs else example
        concatenated = self.config.model.arch == "concat"
        if self.hidden_views:
            example = transforms.hide_views(example, self.hidden_views)
        if draw and data.view_dropout:
            views = concat.usable_views(data.views) if concatenated else data.views
            hidden = transforms.draw_hidden_views(example, views, data.view_dropout, _generator(draw, _VIEWS))
            example = transforms.hide_views(example, hidden)
        view_arrays = concat.study_arrays if concatenated else transforms.study_arrays
        tokens_L, mask_L = self.tokenizer.frame(self._tokens(told), self.config.model.text.length)
        return {
            **view_arrays(example, data, self.config.model.video, _generator(draw) if draw else None),
            "tokens_BL": tokens_L,
            "token_mask_BL": mask_L,
            "text_id_B": transforms.text_id(tokens_L),
            "row_B": np.array(row, np.int32),
            **(self._part(told, _generator(draw, _TEXT)) if draw and data.text_sampling != "none" else {}),
            **({"number_BQ": _stated(told, self.config.model.numbers)} if draw and self.config.model.numbers else {}),
        }

    def _part(self, told: Example, rng: np.random.Generator) -> dict[str, np.ndarray]:
        names = self.config.data.sections
        texts = [told[f"section/{name}"] for name in names]
        if self.config.data.text_sampling == "section":
            one = text_parts.draw_section(texts, rng)
            tokens = [] if one is None else self._tokens(told, (names[one],))
        else:
            tokens = [t for text in text_parts.draw_sentences(texts, rng) for t in self.tokenizer.encode(text)]
        tokens_L, mask_L = self.tokenizer.frame(tokens, self.config.model.text.length)
        return {"part_tokens_BL": tokens_L, "part_token_mask_BL": mask_L, "part_id_B": transforms.text_id(tokens_L)}

    def _tokens(self, example: Example, names: tuple[str, ...] = ()) -> list[int]:
        names = names or self.config.data.sections
        if self.stored_tokens:
            return [int(token) for name in names for token in example[f"tokens/{name}"]]
        return self.tokenizer.encode_sections({name: example[f"section/{name}"] for name in names}, names)


def _stated(told: Example, names: tuple[str, ...]) -> np.ndarray:
    """What the report states of `names` in units of `schema.NUMBERS`, NaN where it states none. Only what was read out
    of the text counts: the columns of the user's table are for evaluation."""
    labels = zip(told["label/name"], told["label/value"], told["label/source"], strict=True)
    said = {name: float(value) for name, value, source in labels if name in names and source == "text"}
    stated = [(said.get(name, np.nan) - schema.NUMBERS[name][0]) / schema.NUMBERS[name][1] for name in names]
    return np.array(stated, np.float32)


def _generator(draw: tuple[int, int, int], *stream: int) -> np.random.Generator:
    return np.random.default_rng([*draw, *stream])


def train_batches(loader: Loader, *, start_step: int, process_index: int, process_count: int) -> Iterator[Batch]:
    """This process's part of every global batch from `start_step` on, without end, read ahead by threads."""
    config = loader.config
    plan = order.Order(len(loader.split), config.train.seed)
    size = config.train.batch_size

    def load(step: int) -> Batch:
        rows = order.host_rows(plan.batch(step, size), process_index, process_count)
        return loader.batch(rows, step=step, first=process_index * (size // process_count))

    steps = grain.MapDataset.range(start_step, config.train.steps).map(load)
    options = grain.ReadOptions(num_threads=config.data.num_threads, prefetch_buffer_size=config.data.prefetch)
    return iter(steps.to_iter_dataset(options))


def eval_rows(num_studies: int, batch_size: int) -> Iterator[tuple[np.ndarray, int]]:
    """The whole split in order as (rows of a batch, how many are real); the last batch repeats its last row."""
    for start in range(0, num_studies, batch_size):
        yield np.minimum(np.arange(start, start + batch_size), num_studies - 1), min(batch_size, num_studies - start)

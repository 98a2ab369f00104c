"""A model of a transfer's workdir, ready to be asked: embeddings of studies in many draws, and of sentences.

Letters: K draws, N studies, E embedding.
"""

import zlib
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import yaml

from bench import measured_reports
from cmr_jax import rng
from cmr_jax.data import records, schema
from cmr_jax.data.loader import eval_rows
from cmr_jax.errors import InputError
from cmr_jax.evals import embed, regression, report
from cmr_jax.train import workdir as workdir_lib

# Splits of the phantoms that no model trains on.
HELD_OUT = ("val", "test")
_FIRST_DRAW = 10_000_000  # training never comes to these steps, whose draws are taken
_BATCH = 16
GROUPS = Path(__file__).parent.parent / "configs" / "transfer_groups.yaml"


class Asked:
    """The newest checkpoint of the training run in `run`, or with `untrained` its model as it was before training;
    `data`: the records it was trained on."""

    def __init__(self, run: Path, data: Path, *, untrained: bool = False):
        self._data = data
        if untrained:
            self._run = workdir_lib.load(run)
            self._params = self._run.model.init(rng.stream(self._run.config.train.seed, "init"))
        else:
            self._run, self._params, _, _ = embed.open_run(str(run), None, None)
        self._image = jax.jit(self._run.model.encode_image)
        self._text = jax.jit(self._run.model.encode_text)
        self._groups = {str(k).casefold(): v for k, v in yaml.safe_load(GROUPS.read_text()).items()}
        self.scale = float(np.exp(np.asarray(self._params["log_scale"])))

    def draws(self, data: Path, split: str, rows: np.ndarray, count: int) -> np.ndarray:
        """Unit embeddings of the studies `rows`, shown `count` times: `K N E`. The first is the plain one of
        evaluation, the others are draws as in training, a function of the study and the draw alone."""
        loader = self._run.loader(data, split)
        out = np.zeros((count, len(rows), self._run.config.model.embed_dim), np.float32)
        for k in report.progress(f"draws of {len(rows)} studies embedded", range(count)):
            for places, real in eval_rows(len(rows), _BATCH) if len(rows) else ():
                batches = []
                for place in places:
                    number = zlib.crc32(loader.split[int(rows[place])]["study_id"].encode()) % 1_000_000
                    batches.append(
                        loader.batch(rows[place : place + 1], step=None if k == 0 else _FIRST_DRAW + k, first=number)
                    )
                batch = jax.tree.map(lambda *each: np.concatenate(each), *batches)
                batch = type(batch)(**{f: getattr(batch, f) for f in batch.__dataclass_fields__ if "part_" not in f})
                out[k, places[:real]] = np.asarray(self._image(self._params, batch))[:real]
        return out

    def phantoms(self, count: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """The phantoms that were not trained on, as `draws`, and their measurements by name, NaN where unknown.

        Raises:
          InputError: where there are too few to fit a probe on.
        """
        parts, labels = [], []
        for split in HELD_OUT:
            found = records.Split(self._data, split)
            for row in range(len(found)):
                one = found[row]
                labels.append(dict(zip(one["label/name"], one["label/value"], strict=True)))
            parts.append(self.draws(self._data, split, np.arange(len(found)), count))
        if len(labels) < 10:
            raise InputError("too few phantoms outside of the training split to fit a probe on: draw more studies")
        names = ("lvef", "edv_ml", "mass_g")
        columns = {name: regression.parse_numbers(name, [one.get(name, "") for one in labels]) for name in names}
        return np.concatenate(parts, axis=1), columns

    def texts(self, sentences: Sequence[str]) -> np.ndarray:
        """Unit embeddings of sentences: `N E`."""
        length = self._run.config.model.text.length
        framed = [self._run.tokenizer.frame(self._run.tokenizer.encode(text), length) for text in sentences]
        tokens_NL, mask_NL = (np.stack(part) for part in zip(*framed, strict=True))
        return np.asarray(self._text(self._params, tokens_NL, mask_NL))

    def read(self, name: str, embedding_KNE: np.ndarray) -> np.ndarray | None:
        """What the model itself reads of the number `name` (`schema.NUMBERS`) off embeddings, the mean over the draws:
        `N`; None where it was not trained to."""
        names = self._run.config.model.numbers
        if name not in names:
            return None
        K, N, E = embedding_KNE.shape
        said = self._run.model.read_numbers(self._params, jnp.asarray(embedding_KNE.reshape(K * N, E)))
        usual, unit = schema.NUMBERS[name]
        return usual + unit * np.asarray(said)[:, names.index(name)].reshape(K, N).mean(axis=0)

    def prompts(self, group: str) -> list[str]:
        """The sentences that a group's name stands for."""
        return self._groups.get(group.casefold()) or [measured_reports.group(group)]

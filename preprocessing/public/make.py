"""The whole way of a public benchmark: cases, headers, records, tables."""

from pathlib import Path
from typing import Any

from cmr_jax.errors import InputError
from preprocessing import deid, kept, parallel, pipeline, process, removed, splits, swap
from preprocessing.public import layouts, plan


def make(
    dataset: str,
    root: Path,
    out: Path,
    key_file: Path,
    *,
    image_size: int = 128,
    spacing_mm: float = 1.5,
    bits: int = 8,
    studies_per_shard: int = 64,
    num_workers: int = 0,
) -> dict[str, Any]:
    """Makes the dataset at `out`, or does nothing where it is made of just this already; returns its manifest.

    Raises InputError where the layout is not that of `dataset`, the key is another than before, or nothing is usable.
    """
    found = layouts.LAYOUTS[dataset](root)
    rule = plan.rule(dataset, found)
    known = pipeline.known_fingerprint(out)
    pseudonyms = deid.Pseudonyms(key := deid.load_key(key_file, create=not known))
    if known and known != pseudonyms.fingerprint:
        raise InputError("--key_file is not the key that made what --out holds: give that key, or another --out")
    with parallel.Workers(num_workers) as pool:
        planned = plan.plan(root, dataset, found, pool)
        planned = pipeline.without_removed(planned, pseudonyms, removed.read(out))
        settings = process.Settings(
            root=root,
            work_dir=pipeline.open_work(out, pseudonyms),
            key=key,
            image_size=image_size,
            spacing_mm=spacing_mm,
            bits=bits,
            text_labels=False,
        )
        return _publish(out, settings, planned, rule, studies_per_shard, pool)


def _publish(
    out: Path,
    settings: process.Settings,
    planned: pipeline.Plan,
    rule: splits.Rule,
    studies_per_shard: int,
    pool: parallel.Workers,
) -> dict[str, Any]:
    # Imported here: every spawned worker imports this module, and needs neither tensorflow-datasets nor matplotlib.
    from preprocessing import check, publish

    options = publish.Options(rule, vocab_size=64, studies_per_shard=studies_per_shard)
    with swap.locked(out):
        swap.heal(out)
    if manifest := check.unchanged(out, publish.made_of(settings, planned, options)):
        return manifest
    published = kept.Published(out)
    pipeline.process_all(settings, pipeline.todo(settings, planned.tasks, published), pool)
    return publish.publish(out, settings, planned, options, published)

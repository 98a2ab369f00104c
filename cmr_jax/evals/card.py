"""What every report says beside its figures: the flow of studies, a reporting checklist, a model card."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from cmr_jax.evals.export import Embeddings
from cmr_jax.evals.tables import Table

_BY_AUTHORS = "to be filled in by the authors"


def flow(embeddings: Embeddings, used: Mapping[str, np.ndarray]) -> Table:
    """Studies and patients of each split, and how many of them each part of the evaluation used (`used`: rows)."""
    splits, patients = np.array(embeddings.ids["split"]), np.array(embeddings.patients())
    rows = []
    for split in sorted(set(splits)):
        here = np.flatnonzero(splits == split)
        counts = [str(len(np.intersect1d(here, part))) for part in used.values()]
        rows.append([split or "(none)", str(len(here)), str(len(set(patients[here]))), *counts])
    return Table("The way of the studies", ["split", "studies", "patients", *used], rows)


# How the counts of a dataset's manifest are said, in the order of the way.
_STATIONS = {
    "files_seen": "files seen",
    "files_used": "files used",
    "files_ignored": "files ignored (no MR image, repeats, …)",
    "files_rejected": "files rejected (damaged, unreadable)",
    "studies_seen": "studies of usable MR images",
    "studies_without_report": "studies without a report, left out",
    "studies_removed": "studies removed on request",
    "studies_without_side": "studies without a date or site to split by, left out",
    "studies_put_aside": "studies without a usable series, put aside",
    "studies": "studies in the dataset",
    "patients": "patients in the dataset",
}


def dataset_flow(embeddings: Embeddings) -> Table | None:
    """From files to studies, as the preprocessing counted; None where the embeddings do not say."""
    counts = embeddings.manifest.get("data_counts")
    if not isinstance(counts, dict):
        return None
    rows = [[said, str(counts[name])] for name, said in _STATIONS.items() if name in counts]
    return Table("From files to studies", ["", "number"], rows) if rows else None


def configuration(embeddings: Embeddings) -> list[tuple[str, str]]:
    """The settings that the model was trained with, flat; empty where the embeddings do not say."""

    def flat(tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
        for name, value in tree.items():
            if isinstance(value, Mapping):
                yield from flat(value, f"{prefix}{name}.")
            else:
                yield prefix + name, str(value)

    settings = embeddings.manifest.get("config")
    return list(flat(settings, "")) if isinstance(settings, Mapping) else []


def checklist(interval: str, missing: str, extra: Sequence[tuple[str, str]] = ()) -> Table:
    """Items of CLAIM (2024) and TRIPOD+AI (2024) that software can fill; what only the authors know says so."""
    rows = [
        ("Data sources, eligibility, dates", "CLAIM methods: data; TRIPOD+AI 5, 6", _BY_AUTHORS),
        ("De-identification", "CLAIM methods: data", "allow-list and pseudonyms (cmr_jax preprocessing)"),
        ("Reference standard", "CLAIM methods: ground truth; TRIPOD+AI 8", _BY_AUTHORS),
        ("Partition of the data", "CLAIM methods: partitions; TRIPOD+AI 10", "by patient; see the way of the studies"),
        ("Missing data", "CLAIM methods: data; TRIPOD+AI 11", missing),
        ("Measures of performance", "CLAIM methods: evaluation; TRIPOD+AI 12", "the tables of this report"),
        ("Uncertainty", "CLAIM methods: evaluation; TRIPOD+AI 12", interval),
        ("Choice of settings and thresholds", "CLAIM methods: training; TRIPOD+AI 12", "never on the test split"),
        ("Numbers of participants", "CLAIM results: data; TRIPOD+AI 20", "the way of the studies"),
        ("Failure analysis", "CLAIM results: performance", "the list of failures, where there is one"),
        ("Fairness, subgroups", "TRIPOD+AI 14", "group tables with --groups, where given"),
        ("Model and code", "CLAIM other; TRIPOD+AI 18", "hashes under “where the embeddings come from”"),
        ("Intended use, ethics, funding", "CLAIM other; TRIPOD+AI 3, 17, 18", _BY_AUTHORS),
        *((name, "", text) for name, text in extra),
    ]
    return Table("Reporting checklist", ["item", "where the guideline asks", "here"], rows)


def model_card(embeddings: Embeddings) -> list[tuple[str, str]]:
    """What it is for and not, on what it was trained and scored, and how to handle it."""
    origin = embeddings.provenance()
    return [
        ("Model", f"dual encoder of CMR studies and reports; checkpoint of step {origin['checkpoint_step']}"),
        ("Trained on", f"the dataset whose manifest has SHA-256 {origin['data_manifest_sha256']}"),
        ("Output", f"unit embeddings of {embeddings.image_NE.shape[1]} features for images and texts"),
        ("Intended use", "research on retrieval and classification of CMR studies"),
        ("Not for", "diagnosis or any clinical decision: this is no medical device"),
        (
            "Limits",
            "figures hold for patients like those tested; other scanners, hospitals and languages are not tested",
        ),
        ("Personal data", "embeddings and checkpoints are personal data: store and share them like the images"),
    ]

"""The studies that a model does worst on, for people to look at: the surest mistakes, the reports found last."""

from typing import TYPE_CHECKING

import numpy as np

from cmr_jax.evals.export import Embeddings
from cmr_jax.evals.retrieval import DIRECTIONS, DUPLICATE_AWARE, Retrieval
from cmr_jax.evals.tables import Table

if TYPE_CHECKING:
    # Only for annotations.
    from cmr_jax.evals.classification import Classification, Scored

MOST = 8


def mistakes(scored: "Scored") -> list[tuple[float, int]]:
    """(how sure, place) of the wrongly classified test studies, the surest first."""
    questions = scored.label.questions
    wrong = []
    for place in range(len(scored.rows_N)):
        said = int(scored.predicted_N[place])
        if said < 0 or said == int(scored.truth_N[place]):
            continue
        # Of a yes-or-no label only the score of yes is there; a low one speaks for no.
        score = float(scored.fit.score_NQ[place, questions.index(said) if said in questions else 0])
        wrong.append((score if said in questions else -score, place))
    return sorted(wrong, key=lambda each: -each[0])


def of_classification(embeddings: Embeddings, found: "Classification") -> tuple[list[Table], dict[str, str]]:
    """A table a protocol and label, and what to say under the picture of each study that is named."""
    tables, captions = [], {}
    for scored in found.scored:
        rows = []
        for _, place in mistakes(scored)[:MOST]:
            study = embeddings.ids["study_id"][scored.rows_N[place]]
            classes = scored.label.classes
            true, said = (classes[int(codes[place])] for codes in (scored.truth_N, scored.predicted_N))
            rows.append([study, true, said])
            captions.setdefault(study, f"{scored.label.name}: {true}, said {said} ({scored.protocol})")
        if rows:
            title = f"Surest mistakes, {scored.protocol}: {scored.label.name}"
            tables.append(Table(title, ["study", "true", "predicted"], rows))
    return tables, captions


def of_retrieval(embeddings: Embeddings, found: Retrieval) -> tuple[list[Table], dict[str, str]]:
    """The images whose report is found last, a study with the same report counting as found."""
    ranks_N = found.ranks[DUPLICATE_AWARE + DIRECTIONS[0]].expected_rank()
    rows, captions = [], {}
    for row in np.argsort(-np.nan_to_num(ranks_N, nan=-np.inf), kind="stable")[:MOST]:
        if ranks_N[row] > 1:
            study = embeddings.ids["study_id"][row]
            rows.append([study, f"{ranks_N[row]:.1f}"])
            captions[study] = f"report found at rank {ranks_N[row]:.1f} of {len(embeddings.text_NE)}"
    return [Table("Images whose report is found last", ["study", "expected rank"], rows)] * bool(rows), captions

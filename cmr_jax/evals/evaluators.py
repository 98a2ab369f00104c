"""What the trainer asks of the model while it trains: the same measures as the binaries, on the validation split."""

from collections.abc import Callable

from jax.sharding import Mesh

from cmr_jax.data.loader import Loader
from cmr_jax.evals import retrieval
from cmr_jax.evals.embed import embed_split
from cmr_jax.models.build import Model
from cmr_jax.structs import Metrics, Params


def retrieval_evaluator(model: Model, loader: Loader, mesh: Mesh) -> Callable[[Params, Callable[[], None]], Metrics]:
    """`(params, between) -> {"val/image_to_text/R@1": …}`, duplicate-aware. `between` is called between batches."""
    hashes = [loader.split[row]["report_hash"] for row in range(len(loader.split))]

    def evaluate(params: Params, between: Callable[[], None] = lambda: None) -> Metrics:
        image_NE, text_NE = embed_split(model, params, loader, mesh, between=between)
        found = retrieval.metrics(image_NE, text_NE, relevant_ids=hashes)
        return {f"val/{name}": value for name, value in found.items()}

    return evaluate

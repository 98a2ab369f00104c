"""What retrieval figures cost beside other ways to get them: `python -m bench.retrieval [--sizes 1000,5000,13787]`.

Every way runs in a process of its own on one thread, in turn and several times (paired), on the same embeddings: a
third of the reports are one and the same, as "normal study" reports are (`--equal`; the largest size is scored by ours
once more with none). CPU-seconds and peak memory above the inputs are those of scoring alone. The ways:

  ours      all figures of both directions, plain and duplicate-aware, exact ties
  full_sort the whole matrix and its argsort, both directions: the usual script, and that of open_clip's evaluation
  row_sort  one row at a time, argsort, look up the partner
  count     a blocked product and a count of better scores: the floor; ties and equal reports are not seen
"""

import argparse
import json
import multiprocessing
import os
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

WIDTH = 512
WAYS = ("ours", "full_sort", "row_sort", "count")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,5000,13787", help="studies, with commas")
    parser.add_argument("--rounds", type=int, default=3, help="times each way is run, in turn")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--equal", type=float, default=1 / 3, help="share of the reports that are one and the same")
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    ways = options.ways.split(",")
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    sizes = [int(size) for size in options.sizes.split(",")]
    rows = []
    for size, equal, some in [*((size, options.equal, ways) for size in sizes), (max(sizes), 0.0, ways[:1])]:
        runs: dict[str, list[tuple[float, float, float]]] = {way: [] for way in some}
        for _ in range(options.rounds):
            for way in some:
                runs[way].append(_in_a_process(way, size, equal))
        for way in some:
            rows.append(_row(size, equal, way, runs[way], runs[some[0]]))
            print(_line(rows[-1]), flush=True)
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump(rows, file, indent=1)


def _row(size: int, equal: float, way: str, runs: list[Any], first: list[Any]) -> dict[str, Any]:
    seconds, mebibytes, recall = zip(*runs, strict=True)
    paired = [one / other[0] for one, other in zip(seconds, first, strict=True)]
    return {
        "studies": size,
        "equal_reports": round(equal, 3),
        "way": way,
        "cpu_seconds": statistics.median(seconds),
        "cpu_seconds_range": [min(seconds), max(seconds)],
        "times_ours": statistics.median(paired),
        "times_ours_range": [min(paired), max(paired)],
        "peak_mib": max(mebibytes),
        "image_to_text_R@1": recall[0],
    }


def _line(row: dict[str, Any]) -> str:
    seconds, times = ("{:.3g} to {:.3g}".format(*row[f"{name}_range"]) for name in ("cpu_seconds", "times_ours"))
    return (
        f"{row['studies']:6} studies, {row['equal_reports']:.0%} equal reports  {row['way']:9} {row['cpu_seconds']:.3g}"
        f" ({seconds}) CPU-s, {row['times_ours']:.3g} ({times}) times ours, {row['peak_mib']:.0f} MiB above the inputs,"
        f" image to text R@1 {row['image_to_text_R@1']:.1f}"
    )


def _in_a_process(way: str, size: int, equal: float) -> tuple[float, float, float]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (way, size, equal))


def _measure(way: str, size: int, equal: float) -> tuple[float, float, float]:
    """CPU-seconds, MiB above the inputs, R@1 of image to text."""
    import numpy as np

    rng = np.random.default_rng(0)
    text = rng.standard_normal((size, WIDTH), np.float32)
    same = int(size * equal)
    text[:same] = text[0]
    image = text + 4 * rng.standard_normal((size, WIDTH), np.float32)
    for rows in (image, text):
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    hashes = np.maximum(np.arange(size) - same, -1)
    run: Callable = {"ours": _ours, "full_sort": _full_sort, "row_sort": _row_sort, "count": _count}[way]
    run(image[:64], text[:64], hashes[:64])  # imports and first-call costs
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    recall = run(image, text, hashes)
    seconds = time.process_time() - started
    return seconds, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, float(recall)


def _ours(image, text, hashes) -> float:
    from cmr_jax.evals import retrieval

    return retrieval.metrics(image, text, relevant_ids=hashes)["image_to_text/R@1"]


def _full_sort(image, text, _) -> float:
    import numpy as np

    scores = image @ text.T
    found = []
    for each in (scores, scores.T):
        order = np.argsort(-each, axis=1)
        found.append(np.argmax(order == np.arange(len(order))[:, None], axis=1))
    return 100 * np.mean(found[0] == 0)


def _row_sort(image, text, _) -> float:
    import numpy as np

    found = []
    for query, gallery in ((image, text), (text, image)):
        ranks = [int(np.flatnonzero(np.argsort(-(gallery @ row)) == i)[0]) for i, row in enumerate(query)]
        found.append(np.array(ranks))
    return 100 * np.mean(found[0] == 0)


def _count(image, text, _) -> float:
    import numpy as np

    found = []
    for query, gallery in ((image, text), (text, image)):
        above = np.empty(len(query), np.int64)
        for start in range(0, len(query), 128):
            scores = query[start : start + 128] @ gallery.T
            own = scores[np.arange(len(scores)), start + np.arange(len(scores))]
            above[start : start + 128] = np.count_nonzero(scores > own[:, None], axis=1)
        found.append(above)
    return 100 * np.mean(found[0] == 0)


if __name__ == "__main__":
    main()

"""What retrieval figures cost beside other ways to get them: `python -m bench.retrieval [--sizes 1000,5000,13787]`.

Every way runs in a process of its own on one thread, in turn and several times (paired), on the same embeddings: a
third of the reports are one and the same, as "normal study" reports are. CPU-seconds and peak memory above the inputs
are those of scoring alone. The ways:

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
import sys
import time
from collections.abc import Callable

WIDTH = 512
WAYS = ("ours", "full_sort", "row_sort", "count")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="1000,5000,13787", help="studies, with commas")
    parser.add_argument("--rounds", type=int, default=3, help="times each way is run, in turn")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--json", help="also write the figures to this file")
    options = parser.parse_args()
    ways = options.ways.split(",")
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    rows = []
    for size in map(int, options.sizes.split(",")):
        runs: dict[str, list[tuple[float, float, float]]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            for way in ways:
                runs[way].append(_in_a_process(way, size))
        for way in ways:
            seconds, mebibytes, recall = zip(*runs[way], strict=True)
            paired = [one[0] / ours[0] for one, ours in zip(runs[way], runs[ways[0]], strict=True)]
            rows.append(
                {
                    "studies": size,
                    "way": way,
                    "cpu_seconds": statistics.median(seconds),
                    f"times_{ways[0]}": statistics.median(paired),
                    "peak_mib": max(mebibytes),
                    "image_to_text_R@1": recall[0],
                }
            )
            print("  ".join(f"{key} {value:.4g}" if key != "way" else f"{value:9}" for key, value in rows[-1].items()))
            sys.stdout.flush()
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump(rows, file, indent=1)


def _in_a_process(way: str, size: int) -> tuple[float, float, float]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (way, size))


def _measure(way: str, size: int) -> tuple[float, float, float]:
    """CPU-seconds, MiB above the inputs, R@1 of image to text."""
    import numpy as np

    rng = np.random.default_rng(0)
    text = rng.standard_normal((size, WIDTH), np.float32)
    text[: size // 3] = text[0]
    image = text + 4 * rng.standard_normal((size, WIDTH), np.float32)
    for rows in (image, text):
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    hashes = np.maximum(np.arange(size) - size // 3, -1)
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

#!/usr/bin/env bash
# The whole way on a phantom: `launch/demo.sh PYTHON OUT STUDIES`. `make demo` sets up the environment and calls this.
set -euo pipefail
python=$1 out=$2 studies=$3
begin=$SECONDS

# XLA and BLAS write notes to stderr that mean nothing to a reader of the demo.
export JAX_PLATFORMS=cpu TF_CPP_MIN_LOG_LEVEL=3 MPLBACKEND=Agg
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$out/compile_cache}

station() { printf '\n== %4d s  %s\n' $((SECONDS - begin)) "$1"; }

rm -rf "$out"
mkdir -p "$out"
# A hospital's key is random and secret. The phantom has nobody to protect, and a fixed key makes the same split,
# and so the same figures, every time.
(umask 077 && printf 'the phantom needs no secret key 00' | sha256sum | cut -c1-64 >"$out/key")

station "phantom: $studies studies of hearts that never existed"
"$python" -m preprocessing.phantom --out "$out/phantom" --studies "$studies" --slices 3 --phases 10 --matrix 96 \
  --patients_with_two_studies 0.15

station "preprocessing: DICOM and reports to records"
"$python" -m preprocessing.run --dicom_dir "$out/phantom/dicom" --reports "$out/phantom/reports.csv" \
  --label_columns group --out "$out/data" --key_file "$out/key" --image_size 96 --spacing_mm 3

station "training"
"$python" -m cmr_jax.bin.train --config configs/demo.py --workdir "$out/run" --config.data.path="$out/data" \
  --config.model.numbers="('lvef_percent','rvef_percent','lv_edv_ml','rv_edv_ml')"

station "embeddings"
"$python" -m cmr_jax.bin.embed --workdir "$out/run" --data "$out/data" --split all --out "$out/embeddings"

station "retrieval on the test patients"
"$python" -m cmr_jax.bin.eval_retrieval --embeddings "$out/embeddings" --out "$out/retrieval" --labels group

station "classification of the test patients"
"$python" -m cmr_jax.bin.eval_classification --embeddings "$out/embeddings" --workdir "$out/run" \
  --out "$out/classification" --labels group --protocols linear,zero_shot --prompts configs/demo_prompts.yaml

station "done"
cat <<EOF2
embeddings       $out/embeddings/image.npy and text.npy, row i of both is study i of ids.csv
retrieval        $out/retrieval/retrieval.md
classification   $out/classification/classification.md
what it saw      $out/data/qc/, $out/data/summary.md
training curve   tensorboard --logdir $out/run/tensorboard, or $out/run/metrics.jsonl
EOF2

#!/usr/bin/env bash
# What bench.transfer asks: `launch/transfer.sh PYTHON W STUDIES STEPS`. Phantoms only; started again it goes on.
set -euo pipefail
python=$1 out=$2 studies=$3 steps=$4
begin=$SECONDS

export JAX_PLATFORMS=cpu TF_CPP_MIN_LOG_LEVEL=3 MPLBACKEND=Agg
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$out/compile_cache}

station() { printf '\n== %4d s  %s\n' $((SECONDS - begin)) "$1"; }

mkdir -p "$out"
# The phantom has nobody to protect, and a fixed key makes the same split every time. Real studies that are asked later
# pass through records that are thrown away at once.
[ -e "$out/key" ] || (umask 077 && printf 'the phantom needs no secret key 00' | sha256sum | cut -c1-64 >"$out/key")

if [ ! -e "$out/phantom/truth.csv" ]; then
  station "phantom: $studies studies of hearts that never existed"
  rm -rf "$out/phantom"
  "$python" -m preprocessing.phantom --out "$out/phantom" --studies "$studies" --variety sketch --slices 12 --phases 10 \
    --matrix 112 --patients_with_two_studies 0
fi
"$python" -m bench.measured_reports --phantom "$out/phantom"

station "preprocessing"
"$python" -m preprocessing.run --dicom_dir "$out/phantom/dicom" --reports "$out/phantom/measured.csv" \
  --label_columns group,lvef,edv_ml,mass_g --out "$out/data" --key_file "$out/key" \
  --image_size 96 --spacing_mm 3 --split_fractions 0.75,0.05,0.2

station "training: the model"
"$python" -m cmr_jax.bin.train --config configs/transfer.py --workdir "$out/model" --config.data.path="$out/data" \
  --config.train.steps="$steps"

station "training: the control, every study with another study's report"
"$python" -m cmr_jax.bin.train --config configs/transfer.py --workdir "$out/shuffled" --config.data.path="$out/data" \
  --config.train.steps="$steps" --config.data.shuffle_pairs

station "done"
echo "ask it: $python -m bench.transfer --workdir $out --dicom_dir D --truth truth.csv --out R"

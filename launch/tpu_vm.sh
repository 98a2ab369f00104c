#!/usr/bin/env bash
# A TPU slice as a queued resource, the trainer on all of its workers, and again after a preemption:
#
#   PROJECT=p ZONE=us-central2-b TPU=v5litepod-16 RUNTIME=v2-alpha-tpuv5-lite NAME=cmr \
#     launch/tpu_vm.sh --config=configs/study_base.py --workdir=gs://bucket/run --config.data.path=/mnt/data
#
# The repository is copied to every worker and its locked requirements are installed there once. SPOT=1 asks for
# capacity that may be taken away. A slice that is gone is asked for anew; the run continues from its last checkpoint.
set -euo pipefail
: "${PROJECT:?}" "${ZONE:?}" "${TPU:?}" "${RUNTIME:?}" "${NAME:?}"
requeue_code=75
where=(--project "$PROJECT" --zone "$ZONE")

state() {
  gcloud compute tpus queued-resources describe "$NAME" "${where[@]}" --format='value(state.state)' 2>/dev/null || true
}

on_all_workers() {
  gcloud compute tpus tpu-vm ssh "$NAME" "${where[@]}" --worker=all --command="$1"
}

acquire() {
  case $(state) in
    ACTIVE) return ;;
    FAILED | SUSPENDED | SUSPENDING)
      gcloud compute tpus queued-resources delete "$NAME" "${where[@]}" --quiet --force ;;
  esac
  if [[ -z $(state) ]]; then
    local spot=()
    [[ -z ${SPOT:-} ]] || spot=(--spot)
    gcloud compute tpus queued-resources create "$NAME" "${where[@]}" --node-id "$NAME" \
      --accelerator-type "$TPU" --runtime-version "$RUNTIME" "${spot[@]}"
  fi
  while [[ $(state) != ACTIVE ]]; do
    [[ $(state) != FAILED ]] || { echo "the request for $TPU failed" >&2; exit 1; }
    sleep 30
  done
  tar --exclude=.venv --exclude=.tools --exclude=.git -czf "/tmp/$NAME.tgz" .
  gcloud compute tpus tpu-vm scp "/tmp/$NAME.tgz" "$NAME:cmr_jax.tgz" "${where[@]}" --worker=all
  # shellcheck disable=SC2016  # the workers expand it
  on_all_workers 'mkdir -p cmr_jax && tar -xzf cmr_jax.tgz -C cmr_jax && cd cmr_jax &&
    make .venv/bin/python && PATH=$PWD/.tools/bin:$PATH uv pip sync --python .venv/bin/python --require-hashes requirements/tpu.txt'
}

command="cd cmr_jax && .venv/bin/python -m cmr_jax.bin.train --distributed$(printf ' %q' "$@")"
while :; do
  acquire
  code=0
  on_all_workers "$command" || code=$?
  if [[ $code -eq 0 ]]; then
    exit 0
  elif [[ $code -ne $requeue_code && $(state) == ACTIVE ]]; then
    exit "$code"  # a fault of the run itself: it would fail again
  fi
  echo "preempted or told to leave (code $code): starting again" >&2
  sleep 30
done

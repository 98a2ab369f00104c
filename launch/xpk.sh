#!/usr/bin/env bash
# The trainer as a GKE workload through xpk (pip install xpk), started again by Kubernetes after a preemption or exit 75:
#
#   CLUSTER=c PROJECT=p ZONE=z TPU=v5litepod-16 SLICES=1 IMAGE=registry/cmr_jax:tag NAME=run1 \
#     launch/xpk.sh --config=configs/study_base.py --workdir=gs://bucket/run --config.data.path=/data
#
# IMAGE is built from launch/Dockerfile (--build-arg REQUIREMENTS=requirements/tpu.txt).
set -euo pipefail
: "${CLUSTER:?}" "${PROJECT:?}" "${ZONE:?}" "${TPU:?}" "${IMAGE:?}" "${NAME:?}"
xpk workload create --cluster "$CLUSTER" --project "$PROJECT" --zone "$ZONE" --workload "$NAME" \
  --tpu-type "$TPU" --num-slices "${SLICES:-1}" --docker-image "$IMAGE" --max-restarts "${RESTARTS:-100}" \
  --command "python -m cmr_jax.bin.train --distributed$(printf ' %q' "$@")"

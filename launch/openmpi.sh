#!/usr/bin/env bash
# One process a GPU under Open MPI, which tells jax who is who: launch/openmpi.sh PROCESSES HOSTFILE --config=... --workdir=...
# Started again as long as the job saved and left (exit code 75).
set -euo pipefail
processes=${1:?number of processes} hostfile=${2:?file of hosts}
shift 2
requeue_code=75
while :; do
  code=0
  mpirun -np "$processes" --hostfile "$hostfile" --bind-to none \
    "${CMR_PYTHON:-.venv/bin/python}" -m cmr_jax.bin.train --distributed "$@" || code=$?
  [[ $code -eq $requeue_code ]] || exit "$code"
done

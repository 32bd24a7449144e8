#!/usr/bin/env bash
# Train under SLURM, one task per GPU.
#
#     tools/slurm_train.sh PARTITION JOB CONFIG [arguments of tools/train.py]
#
# GPUS (16), GPUS_PER_NODE (8), CPUS_PER_TASK (8) and SRUN_ARGS in the
# environment size the job. On SIGTERM or SIGUSR1 it saves and leaves with
# status 143 or 138; SRUN_ARGS=--signal=USR1@120 asks for two minutes to do so.
set -euo pipefail
[ $# -ge 3 ] || { sed -n '/^# /s/^# //p' "$0" >&2; exit 2; }
gpus=${GPUS:-16}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
# shellcheck disable=SC2086
exec srun --partition="$1" --job-name="$2" --gres="gpu:$per_node" \
    --ntasks="$gpus" --ntasks-per-node="$per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-8}" --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$(dirname "$0")/train.py" "$3" \
    --launcher slurm "${@:4}"

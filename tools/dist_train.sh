#!/usr/bin/env bash
# Train in several processes, one per GPU, or on the CPU where there is none.
#
#     tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
#
# On several machines, run it on each, with NNODES, NODE_RANK, MASTER_ADDR and
# PORT in the environment.
set -euo pipefail
[[ ${2-} =~ ^[0-9]+$ ]] || { sed -n '/^# /s/^# //p' "$0" >&2; exit 2; }
exec "${PYTHON:-python}" -m mmfd.launch.processes "$2" \
    "$(dirname "$0")/train.py" "$1" --launcher pytorch "${@:3}"

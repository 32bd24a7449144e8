#!/usr/bin/env bash
# Train in several processes, one per GPU, or on the CPU where there is none.
#
#     tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
#
# On several machines, run it on each with the same arguments, and in the
# environment NNODES (how many), NODE_RANK (which, from 0), MASTER_ADDR (of
# NODE_RANK=0) and PORT (29500). They share the work dir. NNODES=1:2 with
# --resume goes on with the machines that are left.
set -euo pipefail
[[ ${2-} =~ ^[0-9]+$ ]] || { sed -n '/^# /s/^# //p' "$0" >&2; exit 2; }
exec "${PYTHON:-python}" -m mmfd.launch.processes "$2" \
    "$(dirname "$0")/train.py" "$1" --launcher pytorch "${@:3}"

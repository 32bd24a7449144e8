#!/usr/bin/env bash
# Test in several processes, one per GPU, or on the CPU where there is none.
#
#     tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]
set -euo pipefail
[[ ${3-} =~ ^[0-9]+$ ]] || { sed -n '/^# /s/^# //p' "$0" >&2; exit 2; }
exec "${PYTHON:-python}" -m mmfd.launch.processes "$3" \
    "$(dirname "$0")/test.py" "$1" "$2" --launcher pytorch "${@:4}"

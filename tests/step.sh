#!/usr/bin/env bash
# step.sh NAME COMMAND...: runs one step of the build and says how long it took.
set -uo pipefail

name=$1
shift
printf '== %s\n' "$name"
begun=$(date +%s)
"$@"
status=$?
took=$(($(date +%s) - begun))
if [ "$status" -eq 0 ]; then
  printf '== %s: done in %s s\n' "$name" "$took"
else
  printf '== %s: FAILED with status %s after %s s\n' "$name" "$status" "$took"
fi
exit "$status"

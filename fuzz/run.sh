#!/usr/bin/env bash
# run.sh SECONDS [TARGET...]: gives each fuzz target so many seconds, one a core at a time, and
# closes with a table.
#
# What libFuzzer finds worth keeping stays in target/fuzz/found, so that the next run goes on from
# there; what breaks a target stays in fuzz/artifacts. Fails if a target broke, and from
# LONG_SECONDS on also if it tried fewer than INPUTS_MIN inputs.
set -uo pipefail
cd "$(dirname "$0")/.."

LONG_SECONDS=300
INPUTS_MIN=1000000

seconds=${1:?usage: $0 SECONDS [TARGET...]}
shift
[ $# -gt 0 ] || set -- $(cd fuzz/fuzz_targets && ls | sed 's/\.rs$//')
at_once=$(nproc)
host=$(rustc -vV | sed -n 's/^host: //p')
programs=target/fuzz/$host/release
rounds=$((($# + at_once - 1) / at_once))

# Longer inputs make each try slower and are rarely another case.
longest() {
  case $1 in
    query | frame | resp | laravel) echo 400 ;;
    http | session) echo 500 ;;
    api) echo 700 ;;
    *) echo 1200 ;;
  esac
}

# One coverage counter per branch needs no nightly compiler; the sanitizers would.
cargo fuzz build -s none --codegen-units 16 --target-dir target/fuzz || exit 1

fuzz() {
  local target=$1 words=fuzz/words/$1.dict
  mkdir -p "target/fuzz/found/$target" "fuzz/artifacts/$target"
  "$programs/$target" -max_total_time="$seconds" -max_len="$(longest "$target")" -timeout=10 \
    -rss_limit_mb=1024 -print_final_stats=1 -artifact_prefix="fuzz/artifacts/$target/" \
    $([ -f "$words" ] && echo "-dict=$words") \
    "target/fuzz/found/$target" "fuzz/corpus/$target" >"target/fuzz/$target.log" 2>&1
  echo $? >"target/fuzz/$target.status"
}

printf 'fuzz: %s\n' "$*"
printf 'fuzz: %s s each, %s at once: about %s s\n' "$seconds" "$at_once" "$((rounds * seconds))"
for target in "$@"; do
  while [ "$(jobs -rp | wc -l)" -ge "$at_once" ]; do wait -n; done
  fuzz "$target" &
done
wait

# The last of what libFuzzer says of something, such as `cov: 123`.
latest() { grep -ao "$1 *[0-9][0-9]*" "target/fuzz/$2.log" | tail -1 | grep -o '[0-9]*$' || echo 0; }

failed=0
row='%-14s %12s %10s %9s %9s %8s\n'
printf "$row" target inputs 'a second' coverage features crashes
for target in "$@"; do
  inputs=$(latest 'number_of_executed_units:' "$target")
  status=$(cat "target/fuzz/$target.status")
  printf "$row" "$target" "$inputs" "$(latest 'average_exec_per_sec:' "$target")" \
    "$(latest 'cov:' "$target")" "$(latest 'ft:' "$target")" "$((status != 0))"
  if [ "$status" -ne 0 ]; then
    failed=1
    artifact=$(grep -ao 'fuzz/artifacts/[^ ]*-[0-9a-f]*' "target/fuzz/$target.log" | tail -1)
    printf '  broke; see target/fuzz/%s.log, and replay it with:\n' "$target"
    printf '  cargo fuzz run -s none --target-dir target/fuzz %s %s\n' "$target" "$artifact"
  elif [ "$seconds" -ge "$LONG_SECONDS" ] && [ "$inputs" -lt "$INPUTS_MIN" ]; then
    failed=1
    printf '  tried fewer than %s inputs\n' "$INPUTS_MIN"
  fi
done
exit "$failed"

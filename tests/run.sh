#!/usr/bin/env bash
# run.sh rust|budgets|e2e|autobahn|million|proxies|container...: runs those tests and closes with
# their sum.
#
# All parts run even if one fails. The last line is "N passed, N failed", alone; the exit status is
# 1 if anything failed, if a part ended badly, or if a part counted no test at all.
set -uo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT

passed=0
failed=0
broken=()

# Each runner says its counts in its own words.
count() {
  case $1 in
    rust) awk '/^test result: / { p += $4; f += $6 } END { print p + 0, f + 0 }' "$log" ;;
    e2e | million | proxies) awk 'NF == 3 && $2 == "pass" { p += $3 } NF == 3 && ($2 == "fail" || $2 == "cancelled") { f += $3 }
              END { print p + 0, f + 0 }' "$log" ;;
    autobahn | budgets | container) awk -v part="$1:" '$1 == part && $3 == "passed," && $5 == "failed" { p += $2; f += $4 }
              END { print p + 0, f + 0 }' "$log" ;;
  esac
}

run_rust() {
  local status=0
  cargo test --workspace --locked --no-fail-fast || status=$?
  # A build of its own: the planted panic must be in no binary that other tests meet.
  cargo test --locked --features planted-panic --test panic || status=$?
  return "$status"
}
# Without what may be on for builds by hand: it divides the code into other units.
run_budgets() { CARGO_INCREMENTAL=0 cargo run --release --locked -p slapback-budgets; }
run_e2e() { cargo build --locked --bin slapback && node tests/e2e/run.js; }
# The whole flow as it is used: Laravel, Redis, server, browser, and every message counted there.
run_million() {
  cargo build --release --locked --bin slapback \
    && E2E_MESSAGES=1000000 E2E_CLIENTS=chromium E2E_DRIVERS=uring E2E_SHARDS=4 \
      SLAPBACK_BIN="$PWD/target/release/slapback" node tests/e2e/run.js laravel
}
# On one driver and one number of shards: what a proxy can break does not depend on them. What it
# can break by coming over a Unix socket does not depend on the browser either.
run_proxies() {
  local status=0
  export E2E_FRONTS=nginx,caddy,haproxy E2E_DRIVERS=uring E2E_SHARDS=4
  cargo build --locked --bin slapback || return
  node tests/e2e/run.js || status=$?
  E2E_INSIDE=socket E2E_CLIENTS=node node tests/e2e/run.js || status=$?
  return "$status"
}
run_autobahn() { cargo build --locked --example echo && tests/autobahn/check.sh; }
run_container() { tests/container/run.sh; }

for part in "$@"; do
  case $part in
    rust | budgets | e2e | autobahn | million | proxies | container) ;;
    *) echo "usage: $0 rust|budgets|e2e|autobahn|million|proxies|container..." >&2; exit 64 ;;
  esac
  printf '== test %s\n' "$part"
  begun=$(date +%s)
  "run_$part" 2>&1 | tee "$log"
  status=${PIPESTATUS[0]}
  read -r part_passed part_failed < <(count "$part")
  passed=$((passed + part_passed))
  failed=$((failed + part_failed))
  printf '== test %s: %s passed, %s failed in %s s\n' \
    "$part" "$part_passed" "$part_failed" "$(($(date +%s) - begun))"
  [ "$status" -eq 0 ] || [ "$part_failed" -gt 0 ] || broken+=("$part ended with status $status")
  [ "$((part_passed + part_failed))" -gt 0 ] || broken+=("$part ran no test")
done

for reason in "${broken[@]+"${broken[@]}"}"; do
  printf 'BROKEN: %s\n' "$reason"
  failed=$((failed + 1))
done
printf '%s passed, %s failed\n' "$passed" "$failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]

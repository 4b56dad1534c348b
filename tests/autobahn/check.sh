#!/usr/bin/env bash
# check.sh [CASES]: runs the Autobahn suite against examples/echo.rs on both drivers (R-053).
#
# Sections 1-7, 9 and 10 unless CASES says otherwise; 12 and 13 test compression, which is not
# offered. Anything but OK or INFORMATIONAL, in behaviour or in closing, fails. Prints a table of
# passed/run per section, as docs/conformance.md keeps it, and leaves the reports in
# target/autobahn/DRIVER.
#
#   ECHO_BIN        the server under test (default: target/debug/examples/echo)
#   AUTOBAHN_VENV   what install.sh made (default: target/autobahn-venv)
set -uo pipefail
cd "$(dirname "$0")/../.."

cases=${1-}
echo_bin=${ECHO_BIN:-target/debug/examples/echo}
export AUTOBAHN_VENV=${AUTOBAHN_VENV:-$PWD/target/autobahn-venv}
reports=target/autobahn
[ -x "$echo_bin" ] || { echo "check.sh: no $echo_bin: cargo build --example echo" >&2; exit 64; }

server=
stop_server() {
  [ -n "$server" ] || return 0
  kill "$server" 2>/dev/null
  wait "$server" 2>/dev/null
  server=
}
trap stop_server EXIT
trap 'exit 130' INT TERM

free_port() {
  "$AUTOBAHN_VENV/bin/python" -c \
    'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Starts the echo server on a free port; sets $server and $port. It must say which driver it took.
start_server() {
  local driver=$1 log=$2 wanted
  port=$(free_port) || return 1
  SLAPBACK_DRIVER=$driver "$echo_bin" --port "$port" >"$log" 2>&1 </dev/null &
  server=$!
  for _ in $(seq 100); do
    kill -0 "$server" 2>/dev/null || { echo "echo server ended:" >&2; cat "$log" >&2; return 1; }
    # It listens before it has said so.
    if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && grep -Eiq '^echo on .* driver' "$log"; then
      case $driver in uring) wanted='io_?uring' ;; *) wanted=epoll ;; esac
      grep -Eiq "driver[: =]+$wanted" "$log" && return 0
      echo "asked for the $driver driver, but the echo server says:" >&2
      cat "$log" >&2
      return 1
    fi
    sleep 0.1
  done
  echo "the echo server does not answer on port $port" >&2
  return 1
}

status=0
for driver in uring epoll; do
  mkdir -p "$reports/$driver"
  if start_server "$driver" "$reports/$driver/server.log"; then
    printf 'autobahn: %s driver, port %s\n' "$driver" "$port"
    # shellcheck disable=SC2086 # no CASES means no argument
    tests/autobahn/run.sh "$port" "$reports/$driver" ${cases:+"$cases"} || status=1
    kill -0 "$server" 2>/dev/null || { echo "the echo server died" >&2; status=1; }
  else
    rm -f "$reports/$driver/index.json"
    status=1
  fi
  stop_server
done

python_table='
import collections, json, sys
good, sections, rows, totals = ("OK", "INFORMATIONAL"), set(), {}, [0, 0]
for driver in ("uring", "epoll"):
    rows[driver] = collections.defaultdict(lambda: [0, 0])
    try:
        results = json.load(open("%s/%s/index.json" % (sys.argv[1], driver)))["server"]
    except (OSError, ValueError, KeyError):
        results = {}
    totals[1] += not results
    for case, result in results.items():
        section = int(case.split(".")[0])
        sections.add(section)
        strict = result["behavior"] in good and result["behaviorClose"] in good
        rows[driver][section][0] += strict
        rows[driver][section][1] += 1
        totals[not strict] += 1
sections = sorted(sections)
total = lambda driver, index: sum(counts[index] for counts in rows[driver].values())
print("| driver | " + " | ".join("%d" % s for s in sections) + " | all |")
print("| --- |" + " ---: |" * (len(sections) + 1))
for driver, name in (("uring", "io_uring"), ("epoll", "epoll")):
    cells = ["%d/%d" % tuple(rows[driver][s]) for s in sections]
    cells.append("%d/%d" % (total(driver, 0), total(driver, 1)))
    print("| %s | %s |" % (name, " | ".join(cells)))
print("autobahn: %d passed, %d failed" % tuple(totals))
'
"$AUTOBAHN_VENV/bin/python" -c "$python_table" "$reports" || status=1
exit "$status"

#!/usr/bin/env bash
# install.sh [rust] [budgets] [e2e] [autobahn] [proxies] [container] [bench]: installs what those
# tests need and is not here.
#
# Without arguments: what `make test` needs, the first four. Acts only on what is missing, and says
# what it does. Packages come from apt, so as root or through sudo; nothing is fetched but from the
# package registries.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'install: %s\n' "$*"; }
die() { say "$*" >&2; exit 69; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"
  elif command -v sudo >/dev/null; then sudo "$@"
  else die "'$*' needs root or sudo"
  fi
}

apt_updated=
apt_install() {
  command -v apt-get >/dev/null || die "no apt-get here: install $* by hand"
  if [ -z "$apt_updated" ]; then
    say "apt-get update"
    as_root apt-get update -qq
    apt_updated=1
  fi
  say "apt-get install $*"
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# Debian starts what it installs; the tests start their own.
stop_service() {
  if command -v systemctl >/dev/null; then
    as_root systemctl disable --now "$1" 2>/dev/null || true
  fi
}

need_redis() {
  command -v redis-server >/dev/null && return
  apt_install redis-server
  stop_service redis-server
}

need_rust() {
  command -v cargo >/dev/null \
    || die "no cargo: install Rust 1.88 or newer (rustup, or the distribution's rustc and cargo)"
  local want have
  want=$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' Cargo.toml)
  have=$(rustc --version | cut -d' ' -f2)
  [ "$(printf '%s\n%s\n' "$want" "${have%%-*}" | sort -V | head -n1)" = "$want" ] \
    || die "Rust $have is too old: $want or newer is needed"
  command -v cc >/dev/null || apt_install gcc libc6-dev
  # tests/forbidden starts the server behind a filter that a Python script installs.
  command -v python3 >/dev/null || apt_install python3
  need_redis
  command -v openssl >/dev/null || apt_install openssl
  # Some tests have a network of their own.
  command -v unshare >/dev/null || apt_install util-linux
  command -v ip >/dev/null || apt_install iproute2
}

need_budgets() {
  command -v valgrind >/dev/null || apt_install valgrind
}

npm_ci() {
  local lock=$1/package-lock.json
  cmp -s "$lock" "$1/node_modules/.installed" && return
  say "npm ci in $1"
  (cd "$1" && npm ci)
  cp "$lock" "$1/node_modules/.installed"
}

need_e2e() {
  if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
    apt_install nodejs npm
  fi
  node -e 'process.exit(Number(process.versions.node.split(".")[0]) < 18 ? 1 : 0)' \
    || die "Node $(node --version) is too old: 18 or newer is needed"
  command -v "${CHROMIUM_BIN:-chromium}" >/dev/null || apt_install chromium
  npm_ci tests/e2e
  need_redis
  # Laravel's own code, as Debian packages it, publishes to Redis.
  local package
  for package in php-cli php-illuminate-{broadcasting,container,http,redis,routing} php-redis; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' \
      || apt_install "$package"
  done
  python3 -c 'import ensurepip, venv' 2>/dev/null || apt_install python3 python3-venv
  local pins=tests/e2e/python/requirements.txt venv=target/e2e-venv
  if ! cmp -s "$pins" "$venv/.installed"; then
    say "pip install in $venv"
    python3 -m venv --clear "$venv"
    "$venv/bin/python" -m pip --disable-pip-version-check install -q \
      --require-hashes --no-deps --only-binary :all: -r "$pins"
    cp "$pins" "$venv/.installed"
  fi
}

need_proxies() {
  need_e2e
  local name package
  for name in nginx caddy haproxy openssl; do
    PATH=$PATH:/usr/sbin command -v "$name" >/dev/null && continue
    package=$name
    [ "$name" = nginx ] && package=nginx-light
    apt_install "$package"
    stop_service "$name"
  done
}

# The suite is a Python 2 program that tests/autobahn/install.sh ports to 3.11, and to no other.
find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3.11 python3; do
    if "$candidate" -c 'import sys, venv; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null; then
      printf '%s' "$candidate"
      return
    fi
  done
  return 1
}

need_autobahn() {
  find_python >/dev/null || apt_install python3.11 python3.11-venv python3.11-dev
  local python
  python=$(find_python) || die "the Autobahn suite needs Python 3.11: set PYTHON to one"
  # Two of the suite's packages are compiled here.
  "$python" -c 'import ensurepip, os, sysconfig
os.stat(os.path.join(sysconfig.get_paths()["include"], "Python.h"))' 2>/dev/null \
    || apt_install python3.11-venv python3.11-dev
  command -v cc >/dev/null || apt_install gcc libc6-dev
  PYTHON=$python tests/autobahn/install.sh target/autobahn-venv
}

# The bench goes without uWebSockets where there is no Node.
need_bench() {
  if command -v node >/dev/null && command -v npm >/dev/null; then
    npm_ci bench/uws
  else
    say "no Node: the bench does not measure uWebSockets"
  fi
}

# The image's base comes from Debian's archive; its processes are confined by Debian's libseccomp,
# to the default profile of Debian's container engines.
need_container() {
  local package missing=()
  for package in golang-github-containers-common iproute2 jq mmdebstrap python3-seccomp \
    python3-yaml; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' \
      || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] || apt_install "${missing[@]}"
}

[ $# -gt 0 ] || set -- rust budgets e2e autobahn
for part in "$@"; do
  case $part in
    rust | budgets | e2e | autobahn | proxies | container | bench) "need_$part" ;;
    *) echo "usage: $0 [rust] [budgets] [e2e] [autobahn] [proxies] [container] [bench]" >&2; exit 64 ;;
  esac
done

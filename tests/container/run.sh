#!/usr/bin/env bash
# run.sh: builds the image in target/container and tests it and the other files of deploy/.
#
# Runs as root, without a container engine. The tests have a network of their own, so that port 8080
# is free, and end with all that they have started.
set -euo pipefail
cd "$(dirname "$0")/../.."

if [ "$(id -u)" -ne 0 ]; then
  echo "container: only root can make what a container is made of" >&2
  exit 77
fi
export PYTHONDONTWRITEBYTECODE=1
/usr/bin/python3 tests/container/image.py target/container
exec unshare --net --mount --pid --fork --kill-child --mount-proc sh -c \
  'ip link set lo up && exec /usr/bin/python3 tests/container/all.py'

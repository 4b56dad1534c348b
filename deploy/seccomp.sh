#!/bin/sh
# seccomp.sh [PROFILE]: prints a container engine's seccomp profile with io_uring allowed as well.
#
# Without an argument it takes the default that Debian's golang-github-containers-common installs;
# `make seccomp` keeps seccomp.json so. The three calls join the rule that allows io_submit.
set -eu

exec jq --tab '
  if any(.syscalls[].names[]; startswith("io_uring_")) then
    error("the profile has a rule for io_uring already")
  else
    (.syscalls[] | select(.action == "SCMP_ACT_ALLOW").names | select(index("io_submit"))) |=
      (. + ["io_uring_enter", "io_uring_register", "io_uring_setup"] | sort)
  end
' "${1:-/usr/share/containers/seccomp.json}"

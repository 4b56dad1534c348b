#!/bin/sh
# tune.sh [--check|--apply] [--root DIR]: compares this kernel with settings.tsv, which lies beside it.
#
# --check   reports what is found, what is wanted, and why (the default)
# --apply   sets what falls short, and keeps it for the next boot; needs root
# --root    takes DIR for the root of the file system: a copy to try things on
#
# Exit status: 0 all is as wanted, 1 something falls short, 2 something cannot be compared or kept,
# 64 wrong usage. What --apply may write is decided by where it runs: on the machine itself, all that
# falls short; in a network namespace of its own, such as a container's, what belongs to that and
# nothing else; elsewhere nothing.
set -eu

usage() {
  echo "usage: $0 [--check|--apply] [--root DIR]" >&2
  exit 64
}

fail() {
  echo "$0: $*" >&2
  exit 2
}

mode=check root=
while [ $# -gt 0 ]; do
  case $1 in
    --check) mode=check ;;
    --apply) mode=apply ;;
    --root)
      [ $# -ge 2 ] && [ -d "$2/proc/sys" ] && [ -d "$2/etc/sysctl.d" ] || usage
      root=$(cd "$2" && pwd -P)
      shift
      ;;
    *) usage ;;
  esac
  shift
done

list=$(dirname "$0")/settings.tsv
kept=$root/etc/sysctl.d/90-slapback.conf
tab=$(printf '\t')

# Whether a file is the kernel's own, by whatever path it is reached.
is_kernels() { [ "$(stat -L -f -c %T "$1")" = proc ]; }

if [ -n "$root" ]; then
  case $(cd "$root/etc/sysctl.d" && pwd -P) in
    "$root"/*) ;;
    *) fail "--root is for a copy of the files, and $root/etc is none" ;;
  esac
  ! is_kernels "$root/proc/sys" || fail "--root is for a copy of the files, and $root/proc is none"
fi

# Calls a function for each row of the list, with its columns in variables.
each_row() {
  while IFS=$tab read -r name comparison wanted whose why source || [ -n "$name" ]; do
    case $name in '' | '#'*) continue ;; esac
    "$1"
  done <"$list"
}

is_number() {
  case $1 in '' | *[!0-9]*) return 1 ;; esac
}

is_range() {
  is_number "${1% *}" && is_number "${1#* }" && [ "${1% *} ${1#* }" = "$1" ]
}

# The kernel shows numbers that are too large for test(1): the longer of two is the larger.
at_least() {
  [ ${#1} -gt ${#2} ] || { [ ${#1} -eq ${#2} ] && [ "$1" -ge "$2" ]; }
}

# What cannot be compared must not count as enough, nor stop --apply half-way: all is looked at first.
require_sound() {
  case $source in '' | *"$tab"*) fail "$name: not six columns" ;; esac
  case $comparison in
    min | is) is_kind=is_number ;;
    range) is_kind=is_range ;;
    *) fail "$name: unknown comparison $comparison" ;;
  esac
  $is_kind "$wanted" || fail "$name: $wanted is not to be compared by $comparison"
  case $whose in
    machine | network | process) ;;
    *) fail "$name: unknown owner $whose" ;;
  esac
  found=$(found_now)
  case $comparison:$found in
    *: | min:unlimited) ;;
    *) $is_kind "$found" || fail "$name: $found, as found, is not to be compared by $comparison" ;;
  esac
}

wanted_in_words() {
  case $comparison in
    min) echo "at least $wanted" ;;
    is) echo "$wanted" ;;
    range) echo "$wanted or wider" ;;
  esac
}

is_enough() {
  case $comparison in
    min) [ "$found" = unlimited ] || at_least "$found" "$wanted" ;;
    is) [ "$found" = "$wanted" ] ;;
    range) at_least "${wanted% *}" "${found% *}" && at_least "${found#* }" "${wanted#* }" ;;
  esac
}

path() {
  echo "$root/proc/sys/$(echo "$name" | tr . /)"
}

# Prints nothing if this kernel, or this namespace, does not have it.
found_now() {
  if [ "$name" = nofile ]; then
    sed -n 's/^Max open files  *[^ ]*  *\([^ ]*\).*/\1/p' "$root/proc/self/limits"
  elif [ -r "$(path)" ]; then
    # The largest number there is means no limit.
    tr -s '\t' ' ' <"$(path)" | sed 's/^9223372036854775807$/unlimited/'
  fi
}

# The initial namespaces of processes and users bear these numbers on every kernel; only the network of
# the machine has the setting that is looked for; a container that shares all these, or a chroot, has
# another root than process 1: another device, or another directory of it.
in_pid_of_machine() { [ "$(readlink /proc/self/ns/pid)" = 'pid:[4026531836]' ]; }
in_user_of_machine() { [ "$(readlink /proc/self/ns/user)" = 'user:[4026531837]' ]; }
in_network_of_machine() { [ -e /proc/sys/net/core/netdev_max_backlog ]; }
root_of() { sed -n 's|^[0-9]* [0-9]* \([^ ]* [^ ]*\) / .*|\1|p' "/proc/$1/mountinfo"; }
in_root_of_machine() { [ -n "$(root_of 1)" ] && [ "$(root_of 1)" = "$(root_of self)" ]; }

where_we_are() {
  if [ -n "$root" ]; then
    echo machine
  elif ! in_network_of_machine; then
    echo namespace
  elif in_pid_of_machine && in_user_of_machine && in_root_of_machine; then
    echo machine
  else
    echo guest
  fi
}

may_write() {
  case $where:$whose in
    machine:machine | machine:network | namespace:network) ;;
    *) return 1 ;;
  esac
  [ -z "$root" ] || ! is_kernels "$(path)"
}

keeping=
keep() {
  keeping="$keeping
# $why
$name = $wanted
"
}

short=0
report() {
  found=$(found_now)
  note=
  if [ -z "$found" ]; then
    state=absent
  elif is_enough; then
    state=ok
  else
    state=short
    [ $mode = check ] || apply
  fi
  # What an earlier --apply has kept stays, but not where the value is a higher one by now, which the
  # line would lower at the next boot.
  case $state:$found in
    absent: | ok:"$wanted") ! grep -qsxF "$name = $wanted" "$kept" || keep ;;
    set:*) keep ;;
    short:*) short=$((short + 1)) ;;
  esac
  printf '%-6s  %s = %s, wanted: %s (%s)\n' \
    "$state" "$name" "${found:-none}" "$(wanted_in_words)" "$whose"
  printf '        %s [%s]\n' "$why" "$source"
  [ -z "$note" ] || printf '        -> %s\n' "$note"
}

# Sets what report() has found to fall short, and reads back what came of it.
apply() {
  if [ "$whose" = process ]; then
    note='left as it is: see limits.conf'
  elif ! may_write; then
    note='left as it is: to be set on the machine itself, or where this network is made'
  elif ! echo "$wanted" 2>/dev/null >"$(path)"; then
    note='cannot be written: only root may, and not where /proc/sys is read-only'
  else
    note="was $found"
    found=$(found_now)
    if is_enough; then state=set; else note="$note, and the kernel took no more"; fi
  fi
}

# Written whole and put in place at once, so that running it again changes nothing.
write_kept() {
  {
    echo '# Written by tune.sh --apply of Slapback: edit settings.tsv and run it again.'
    printf '%s' "$keeping"
  } >"$kept.new" && mv "$kept.new" "$kept" || fail "what was set is not kept: $kept cannot be written"
  echo "kept for the next boot in $kept"
}

each_row require_sound
if [ $mode = apply ] && [ -z "$root" ] && [ "$(id -u)" -ne 0 ]; then
  fail 'only root can --apply'
fi
where=$(where_we_are)
each_row report
if [ $mode = apply ] && [ $where != machine ]; then
  echo 'nothing is kept for the next boot: this is not the machine itself'
elif [ $mode = apply ] && { [ -n "$keeping" ] || [ -e "$kept" ]; }; then
  write_kept
fi
[ $short -eq 0 ]

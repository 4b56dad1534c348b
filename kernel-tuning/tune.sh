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

# Calls a function with each row of the list: name, comparison, wanted, whose, why, source.
each_row() {
  while IFS=$tab read -r name comparison wanted whose why source; do
    case $name in '' | '#'*) continue ;; esac
    "$1" "$name" "$comparison" "$wanted" "$whose" "$why" "$source"
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
  case $6 in '' | *"$tab"*) fail "$1: not six columns" ;; esac
  case $2 in
    min | is) is_kind=is_number ;;
    range) is_kind=is_range ;;
    *) fail "$1: unknown comparison $2" ;;
  esac
  $is_kind "$3" || fail "$1: $3 is not to be compared by $2"
  case $4 in
    machine | network | process) ;;
    *) fail "$1: unknown owner $4" ;;
  esac
  found=$(found_now "$1")
  case $2:$found in
    *: | min:unlimited) ;;
    *) $is_kind "$found" || fail "$1: $found, as found, is not to be compared by $2" ;;
  esac
}

# comparison, wanted
in_words() {
  case $1 in
    min) echo "at least $2" ;;
    is) echo "$2" ;;
    range) echo "$2 or wider" ;;
  esac
}

# comparison, wanted, found
is_enough() {
  case $1 in
    min) [ "$3" = unlimited ] || at_least "$3" "$2" ;;
    is) [ "$3" = "$2" ] ;;
    range) at_least "${2% *}" "${3% *}" && at_least "${3#* }" "${2#* }" ;;
  esac
}

path_of() {
  echo "$root/proc/sys/$(echo "$1" | tr . /)"
}

# Prints nothing if this kernel, or this namespace, does not have it.
found_now() {
  if [ "$1" = nofile ]; then
    sed -n 's/^Max open files  *[^ ]*  *\([^ ]*\).*/\1/p' "$root/proc/self/limits"
  elif [ -r "$(path_of "$1")" ]; then
    # The largest number there is means no limit.
    tr -s '\t' ' ' <"$(path_of "$1")" | sed 's/^9223372036854775807$/unlimited/'
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

# whose
may_write() {
  case $where:$1 in
    machine:machine | machine:network | namespace:network) return 0 ;;
    *) return 1 ;;
  esac
}

keeping=
# name, wanted, why
keep() {
  keeping="$keeping
# $3
$1 = $2
"
}

short=0
report() {
  name=$1 comparison=$2 wanted=$3 whose=$4 why=$5 source=$6
  found=$(found_now "$name")
  note=
  if [ -z "$found" ]; then
    state=absent found=none
  elif is_enough "$comparison" "$wanted" "$found"; then
    state=ok
    # A line that an earlier --apply has kept is why this is as wanted, and stays. Not if the value
    # is a higher one by now: at the next boot the line would lower it.
    if [ "$found" = "$wanted" ] && grep -qsxF "$name = $wanted" "$kept"; then
      keep "$name" "$wanted" "$why"
    fi
  elif [ $mode = apply ]; then
    apply
  else
    state=short
  fi
  [ "$state" != short ] || short=$((short + 1))
  printf '%-6s  %s = %s, wanted: %s (%s)\n' \
    "$state" "$name" "$found" "$(in_words "$comparison" "$wanted")" "$whose"
  printf '        %s [%s]\n' "$why" "$source"
  [ -z "$note" ] || printf '        -> %s\n' "$note"
}

# Sets the row that report() is at, and reads back what came of it.
apply() {
  state=short
  if [ "$whose" = process ]; then
    note='left as it is: see limits.conf'
  elif ! may_write "$whose" || { [ -n "$root" ] && is_kernels "$(path_of "$name")"; }; then
    note='left as it is: to be set on the machine itself, or where this network is made'
  elif ! echo "$wanted" 2>/dev/null >"$(path_of "$name")"; then
    note='cannot be written: only root may, and not where /proc/sys is read-only'
  else
    was=$found found=$(found_now "$name")
    if is_enough "$comparison" "$wanted" "$found"; then
      state=set note="was $was"
      keep "$name" "$wanted" "$why"
    else
      note="was $was, and the kernel took no more"
    fi
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

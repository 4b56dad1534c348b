#!/usr/bin/env bash
# run.sh [NAME...]: plants each fault of tests/mutants/*.patch into a scratch copy and fails unless
# the simulation finds it within 100 seeds; a fault of the bus, as its name says, the bus's within
# 1000. A patch that no longer applies, or a copy that no longer builds, is a failure too.
set -uo pipefail
cd "$(dirname "$0")/../.."

scratch=target/mutants
export CARGO_TARGET_DIR=$PWD/$scratch/target
mkdir -p "$scratch"

patches=(tests/mutants/*.patch)
if [ $# -gt 0 ]; then
  patches=("${@/#/tests/mutants/}")
  patches=("${patches[@]/%/.patch}")
fi
[ -e "${patches[0]}" ] || { echo "mutants: no ${patches[0]}" >&2; exit 64; }

# Touched, or cargo would take the last mutant's objects for those of an older, unchanged file.
copy_tree() {
  rm -rf "$scratch/tree"
  mkdir -p "$scratch/tree"
  git ls-files -z --cached --others --exclude-standard \
    | tar --null --files-from=- --create | tar --extract --touch --directory="$scratch/tree"
}

# The tree as it is must pass, or a red simulation says nothing about a mutant.
simulate() {
  # A seed of the bus takes a tenth of the time.
  case $1 in
    unchanged) seeds=100 tests=(--test sim --test bus_sim) ;;
    bus-*) seeds=1000 tests=(--test bus_sim) ;;
    *) seeds=100 tests=(--test sim) ;;
  esac
  (cd "$scratch/tree" && SLAPBACK_SIM_SEEDS=$seeds cargo test --locked "${tests[@]}") \
    >"$scratch/$1.log" 2>&1
}

found=0
failed=()
copy_tree
if ! simulate unchanged; then
  echo "mutants: the simulation fails without any fault: $scratch/unchanged.log" >&2
  exit 1
fi
for patch in "${patches[@]}"; do
  name=$(basename "$patch" .patch)
  copy_tree
  if ! patch --directory="$scratch/tree" --strip=1 --fuzz=0 --silent <"$patch"; then
    failed+=("$name: the patch no longer applies")
  elif simulate "$name"; then
    failed+=("$name: $seeds seeds did not find it")
  elif ! grep -q '^test result: FAILED' "$scratch/$name.log"; then
    failed+=("$name: the copy does not build or run, see $scratch/$name.log")
  else
    found=$((found + 1))
    echo "mutants: $name found"
  fi
done
for reason in "${failed[@]+"${failed[@]}"}"; do echo "mutants: $reason" >&2; done
echo "mutants: $found of ${#patches[@]} found"
[ "${#failed[@]}" -eq 0 ]

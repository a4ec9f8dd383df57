# Sourced by the scripts beside it: finds the repository, names the steps, keeps builds quiet.
# A step writes its output to build/logs/NAME.log and shows the end of it only when it fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# Debian does not put it on PATH, nor does NVIDIA's installer.
if [ -x /usr/local/cuda/bin/nvcc ]; then PATH="$PATH:/usr/local/cuda/bin"; fi

say() { printf '== %s\n' "$*"; }

# step NAME "What is being done" COMMAND...
step() {
  local name=$1 what=$2 log="build/logs/$1.log" took TIMEFORMAT='%0R s, %0U + %0S s of CPU'
  shift 2
  mkdir -p build/logs
  printf '== %s ... ' "$what"
  if took=$({ time "$@" >"$log" 2>&1 </dev/null; } 2>&1); then
    printf 'done (%s)\n' "$took"
  else
    printf 'FAILED. The end of %s:\n' "$log"
    tail -n 60 "$log"
    return 1
  fi
}

# build PRESET [TARGET...]: configures and builds one preset of CMakePresets.json.
build() {
  local preset=$1
  shift
  cmake --preset "$preset" && cmake --build --preset "$preset" ${1:+--target "$@"}
}

#!/usr/bin/env bash
# On a Jetson with JetPack 6.1 or later, or 7: installs edgeline beside JetPack's TensorRT, builds an artefact's engine
# for this GPU, runs its self-test, and times it.  NEVER RUN on a Jetson yet.
#
#     ./jetson.sh edgeline-*.whl lenet-mnist-10k.int8.trt
#
# Exit code 2: wrong arguments, 3: this is no such Jetson or something is missing (the line says what); else edgeline's.
set -euo pipefail

fail() {
  echo "jetson.sh: $2" >&2
  exit "$1"
}

[ $# = 2 ] || fail 2 "usage: jetson.sh EDGELINE.whl ARTEFACT"
wheel=$1 artefact=$2
[ -f "$wheel" ] || fail 2 "there is no wheel $wheel: python -m build --wheel makes it, on any machine"
[ -f "$artefact/manifest.json" ] || fail 2 "there is no artefact at $artefact: export-model writes it, on any machine"

release=/etc/nv_tegra_release
[ "$(uname -m)" = aarch64 ] && [ -r "$release" ] || fail 3 "this is no Jetson: it has no $release"
# Its first line begins with the release of Jetson Linux: 36 belongs to JetPack 6, 38 and above to JetPack 7.
major=$(sed -n '1s/^# R\([0-9]*\) .*/\1/p' "$release")
case $major in
  36) cuda_bindings='cuda-bindings>=12.6,<13' ;;
  3[89]) cuda_bindings='cuda-bindings>=13,<14' ;;
  *) fail 3 "Jetson Linux ${major:-of an unknown release}: this script knows JetPack 6 (36) and 7 (38, 39)" ;;
esac

python3 -c 'import venv, ensurepip' 2>/dev/null || fail 3 "Python has no venv: sudo apt-get install python3-venv"
# TensorRT comes from JetPack's apt repository, not from pip.
python3 -c 'import tensorrt' || fail 3 "Python has no TensorRT: sudo apt-get install python3-libnvinfer"

venv=${EDGELINE_VENV:-$HOME/edgeline-venv}
[ -x "$venv/bin/python" ] || python3 -m venv --system-site-packages "$venv" # so that it sees apt's tensorrt
"$venv/bin/python" -m pip install --quiet --disable-pip-version-check "$wheel" "$cuda_bindings"

"$venv/bin/edgeline" doctor
"$venv/bin/edgeline" build "$artefact"
"$venv/bin/edgeline" selftest "$artefact"
"$venv/bin/python" "$(dirname "$0")/latency.py" "$artefact"

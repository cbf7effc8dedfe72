#!/usr/bin/env bash
# Build the image: docker/build_docker.sh [--cpu] [options]
#
#   --cpu               for machines without a GPU: tune-to-ensemble:cpu instead of tune-to-ensemble:gpu
#   --tag NAME          what the image is called, such as registry.example/me/tune-to-ensemble:1
#   --torch-index URL   PyTorch's index of builds for one CUDA version, or for CPUs (its start page names them); without
#                       it torch is PyPI's, for CUDA 13: right for GPUs, 4 GB too much for CPUs
#   --cuda VERSION      the CUDA version that torch is built for and drivers have to offer, from 11.6 (default: 13.0)
#   --base IMAGE        Debian 12 with Python 3.11, also by digest: python:3.11.14-slim-bookworm@sha256:...
#   --extras NAMES      optional dependencies of pyproject.toml (default: dashboard,onnx,serve)
#   --dry-run           print the docker command, run nothing
#   --help              print this
#
# Needs Docker 23 or newer, or an older one with BuildKit. The labels say version, git commit and its date.
set -euo pipefail

fail() {
  echo "build_docker.sh: $1" >&2
  exit "${2:-1}"
}

usage() {
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
variant=gpu tag='' torch_index='' cuda=13.0 base='' extras='' dry_run=''

while [ $# -gt 0 ]; do
  case "$1" in
    --cpu) variant=cpu ;;
    --dry-run) dry_run=1 ;;
    --help | -h) usage; exit 0 ;;
    --tag | --torch-index | --cuda | --base | --extras)
      [ -n "${2:-}" ] || fail "$1 needs a value; see --help" 2
      case "$1" in
        --tag) tag=$2 ;;
        --torch-index) torch_index=$2 ;;
        --cuda) cuda=$2 ;;
        --base) base=$2 ;;
        --extras) extras=$2 ;;
      esac
      shift
      ;;
    *) fail "$1 is no option; see --help" 2 ;;
  esac
  shift
done

[[ $cuda =~ ^[0-9]+\.[0-9]+$ ]] || fail "--cuda $cuda: name a version such as 12.6" 2
major=${cuda%.*} minor=${cuda#*.}
((major > 11 || (major == 11 && minor >= 6))) || fail "--cuda $cuda: 11.6 is the oldest that is supported" 2
if [ "$variant" = cpu ]; then
  cuda=none
  if [ -z "$torch_index" ]; then
    echo "build_docker.sh: without --torch-index the image holds 4 GB of CUDA that it can't use" >&2
  fi
fi

version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/pyproject.toml")
commit=unknown created=unknown
if git -C "$root" rev-parse --verify --quiet HEAD > /dev/null 2>&1; then
  commit=$(git -C "$root" describe --always --dirty --abbrev=40 --exclude '*')
  created=$(git -C "$root" show --no-patch --format=%cI HEAD)   # the commit's, so that equal code gives an equal image
fi

command=(docker build --file "$root/docker/Dockerfile" --target "$variant" --tag "${tag:-tune-to-ensemble:$variant}"
  --build-arg "CUDA=$cuda" --build-arg "VERSION=$version" --build-arg "COMMIT=$commit" --build-arg "CREATED=$created")
[ -z "$torch_index" ] || command+=(--build-arg "TORCH_INDEX=$torch_index")
[ -z "$base" ] || command+=(--build-arg "BASE=$base")
[ -z "$extras" ] || command+=(--build-arg "EXTRAS=$extras")
command+=("$root")

if [ -n "$dry_run" ]; then
  printf '%q ' "${command[@]}"
  echo
  exit 0
fi
command -v docker > /dev/null || fail "docker isn't installed, or isn't on the PATH; see docs/containers.md"
DOCKER_BUILDKIT=1 exec "${command[@]}"

#!/usr/bin/env bash
# Run the image on this machine: docker/run_docker.sh [options] [--] [command of the container]
#
#   docker/run_docker.sh                                       a search on the embedded digits
#   docker/run_docker.sh --data ~/images --space all --time-budget 8h
#   docker/run_docker.sh -- --help                             the search's own help
#   docker/run_docker.sh serve runs/NAME/ensemble              answers on http://127.0.0.1:8000
#   docker/run_docker.sh predict runs/NAME/ensemble /data -o runs/predictions.csv
#
# Options, before the command (the first word that isn't one of them begins it; after -- everything does):
#   --data FOLDER      images: mounted read-only at /data, and given to a search as --data /data
#   --runs FOLDER      experiments: mounted at runs; its files belong to you (default: runs)
#   --cache FOLDER     decoded images, kept from run to run (default: ~/.cache/tune-to-ensemble)
#   --gpus WHICH       all, none, or as docker's --gpus has it: device=0 (default: all that Docker can use)
#   --shm-size SIZE    of /dev/shm (default: half of the memory: Ray keeps its objects there, in 30 % of the memory, and
#                      loader workers their batches; it is a limit, nothing is reserved)
#   --port N           where the dashboard is, on 127.0.0.1 alone (default: the first free one from 8265)
#   --image NAME       default: tune-to-ensemble:gpu, or tune-to-ensemble:cpu without GPUs
#   --name NAME        of the container
#   --dry-run          print the docker command, run nothing
#   --help             print this
#
# W&B's and S3's settings (WANDB_*, AWS_*) are handed on by name where they are set, so no key is on a command line.
set -euo pipefail

HANDED_ON="WANDB_API_KEY WANDB_MODE WANDB_ENTITY WANDB_BASE_URL AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
AWS_SESSION_TOKEN AWS_DEFAULT_REGION AWS_ENDPOINT_URL RAY_AUTH_MODE RAY_AUTH_TOKEN"

fail() {
  echo "run_docker.sh: $1" >&2
  exit "${2:-1}"
}

note() {
  echo "run_docker.sh: $1" >&2
}

usage() {
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"
}

folder() {   # an existing folder's absolute path, fit for --mount
  [ -d "$2" ] || fail "$1 $2: no such folder"
  case "$2" in *,*) fail "$1 $2: Docker can't mount a path with a comma; use a link to it" ;; esac
  (cd "$2" && pwd)
}

taken() {   # whether something listens on the port of 127.0.0.1
  (exec 3<> "/dev/tcp/127.0.0.1/$1") 2> /dev/null
}

data='' runs=runs cache=${XDG_CACHE_HOME:-$HOME/.cache}/tune-to-ensemble gpus='' shm_size='' port='' image='' name=''
dry_run=''
while [ $# -gt 0 ]; do
  case "$1" in
    --) shift; break ;;
    --dry-run) dry_run=1; shift ;;
    --help | -h) usage; exit 0 ;;
    --data | --runs | --cache | --gpus | --shm-size | --port | --image | --name)
      [ -n "${2:-}" ] || fail "$1 needs a value; see --help" 2
      case "$1" in
        --data) data=$(folder --data "$2") ;;
        --runs) runs=$2 ;;
        --cache) cache=$2 ;;
        --gpus) gpus=$2 ;;
        --shm-size) shm_size=$2 ;;
        --port) port=$2 ;;
        --image) image=$2 ;;
        --name) name=$2 ;;
      esac
      shift 2
      ;;
    *) break ;;
  esac
done
mode=${1:-search}
case "$mode" in -*) mode=search ;; esac

# what Docker says of its machine: memory in bytes | runtimes | security options
about='||'
if command -v docker > /dev/null; then
  # shellcheck disable=SC2016 # a template of Go's, whose $ are its own
  wanted='{{.MemTotal}}|{{range $name, $runtime := .Runtimes}}{{$name}} {{end}}|{{.SecurityOptions}}'
  about=$(docker info --format "$wanted" 2> /dev/null) || about='||'
elif [ -z "$dry_run" ]; then
  fail "docker isn't installed, or isn't on the PATH; see docs/containers.md"
fi
if [ "$about" = '||' ] && [ -z "$dry_run" ]; then
  fail "no Docker daemon answers: start it, or ask to be let into the group docker"
fi
memory=${about%%|*} runtimes=${about#*|}
security=${runtimes#*|} runtimes=${runtimes%%|*}

if [ -z "$gpus" ]; then
  gpus=none
  if command -v nvidia-smi > /dev/null && nvidia-smi -L > /dev/null 2>&1; then
    case " $runtimes " in
      *' nvidia '*) gpus=all ;;
      *) note "there are GPUs, but Docker has no nvidia runtime: going on without (install nvidia-container-toolkit)" ;;
    esac
  fi
fi
if [ -z "$image" ]; then
  image=tune-to-ensemble:gpu
  [ "$gpus" != none ] || image=tune-to-ensemble:cpu
fi

if [ -z "$shm_size" ]; then
  case "$memory" in '' | 0) memory=$(($(awk '/^MemTotal:/ { print $2 }' /proc/meminfo) * 1024)) ;; esac
  shm_size=$((memory / 2 / 1024 / 1024))m
fi

case "$runs" in /*) ;; *) runs=$PWD/$runs ;; esac
case "$cache" in /*) ;; *) cache=$PWD/$cache ;; esac
if [ -z "$dry_run" ]; then
  mkdir -p "$runs" "$cache"   # Docker itself would make them as root's
  runs=$(folder --runs "$runs") cache=$(folder --cache "$cache")
fi

user=$(id -u):$(id -g)
case "$security" in *rootless*) user=0:0 ;; esac   # there, root inside is the caller outside

command=(docker run --rm --init --user "$user" --shm-size "$shm_size" --ulimit nofile=65536:65536
  --mount "type=bind,source=$runs,target=/work/runs"
  --mount "type=bind,source=$cache,target=/home/tune/.cache/tune-to-ensemble")
if [ -t 0 ] && [ -t 1 ]; then command+=(--interactive --tty); fi
[ -z "$name" ] || command+=(--name "$name")
[ "$gpus" = none ] || command+=(--gpus "$gpus")
[ -z "$data" ] || command+=(--mount "type=bind,source=$data,target=/data,readonly")
for variable in $HANDED_ON; do
  [ -z "${!variable:-}" ] || command+=(-e "$variable")
done
case "$mode" in
  search | run | head)
    if [ -z "$port" ]; then
      port=8265
      while [ "$port" -lt 8285 ] && taken "$port"; do port=$((port + 1)); done
    fi
    command+=(--publish "127.0.0.1:$port:8265")
    note "dashboard: http://127.0.0.1:$port (its token: docker exec CONTAINER ray get-auth-token)"
    ;;
  serve)
    command+=(--publish "127.0.0.1:${port:-8000}:8000")
    note "predictions: http://127.0.0.1:${port:-8000}"
    ;;
esac
command+=("$image" "$@")
if [ "$mode" = search ] && [ -n "$data" ]; then
  case " $* " in
    *' --data'* | *' --resume'*) ;;   # a search that is resumed knows its data
    *) command+=(--data /data) ;;
  esac
fi

if [ -n "$dry_run" ]; then
  printf '%q ' "${command[@]}"
  echo
  exit 0
fi
exec "${command[@]}"

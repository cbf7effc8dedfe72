#!/usr/bin/env bash
# What the container runs. Without arguments, or with options alone, a search: python -m tuning.run OPTIONS. Else:
#
#   head [RAY OPTIONS]              the first node of a Ray cluster, with the dashboard
#   worker ADDRESS [RAY OPTIONS]    a further node; ADDRESS is the head's, such as head:6379
#   run, jobs, again                python -m tuning.NAME
#   train                           python -m trainable.train
#   predict, serve, report, ...     python -m analysis.NAME
#   analysis.NAME, tuning.NAME ...  any module by its name, as after python -m
#   health                          what the image's health check runs
#   anything else                   is run as it is: bash, ray status, python ...
set -euo pipefail

health_file=${TMPDIR:-/tmp}/health-url   # says where this container answers, for the health check

usage() {
  sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"
}

raylet_health() {   # open to all, also where the cluster asks for a token
  echo "http://127.0.0.1:52365/api/local_raylet_healthz" > "$health_file"
}

serve_health() {    # of the port that --port names
  local port=8000
  while [ $# -gt 0 ]; do
    case "$1" in
      --port) port=${2:-$port} ;;
      --port=*) port=${1#--port=} ;;
    esac
    shift
  done
  echo "http://127.0.0.1:$port/healthz" > "$health_file"
}

if [ -n "${RAY_AUTH_TOKEN_PATH:-}" ] && [ ! -s "$RAY_AUTH_TOKEN_PATH" ]; then
  echo "$RAY_AUTH_TOKEN_PATH holds no token; make one by openssl rand -hex 32 (RAY_TOKEN in docker/.env)" >&2
  exit 2
fi

mode=${1:-run}
case "$mode" in
  -*) exec python -m tuning.run "$@" ;;
  *) [ $# -eq 0 ] || shift ;;
esac

case "$mode" in
  help)
    usage
    ;;
  head)
    raylet_health
    exec ray start --head --block --disable-usage-stats --port 6379 --dashboard-host "${DASHBOARD_HOST:-127.0.0.1}" \
      --metrics-export-port 8080 "$@"
    ;;
  worker)
    case "${1:-}" in
      '' | -*)
        echo "worker: name the head's address: worker HOST:6379" >&2
        exit 2
        ;;
    esac
    address=$1
    shift
    raylet_health
    exec ray start --block --disable-usage-stats --address "$address" --metrics-export-port 8080 "$@"
    ;;
  health)
    # a command without a port is healthy while it lives
    [ -f "$health_file" ] || exit 0
    exec wget --quiet --tries 1 --timeout 8 --output-document /dev/null "$(cat "$health_file")"
    ;;
  serve)
    serve_health "$@"
    exec python -m analysis.serve --host "${DASHBOARD_HOST:-127.0.0.1}" "$@"
    ;;
  run | jobs | again)
    exec python -m "tuning.$mode" "$@"
    ;;
  train)
    exec python -m trainable.train "$@"
    ;;
  predict | report | export | select | compare | experiment | dataset)
    exec python -m "analysis.$mode" "$@"
    ;;
  tuning.* | trainable.* | analysis.*)
    exec python -m "$mode" "$@"
    ;;
  *)
    exec "$mode" "$@"
    ;;
esac

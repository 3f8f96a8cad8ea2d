#!/usr/bin/env bash
# Set Penstock up in this checkout and run it; works with bash 3.2 (macOS).
set -euo pipefail

usage() {
    cat <<'TEXT'
usage: scripts/start_vllm_ollama.sh [PORT] [--detach | --stop] [arguments for `penstock serve`]

Sets Penstock up in .venv, starts it, and prints its address and the servers that it found. Runs until Ctrl-C.

  PORT       port of the gateway; default: VLLM_OLLAMA_PORT, the settings file, or 8005
  --detach   run in the background; writes penstock.pid and penstock.log
  --stop     stop the gateway that --detach started; running streams may finish first

examples:
  scripts/start_vllm_ollama.sh
  scripts/start_vllm_ollama.sh 9000 --config my.yaml --log-format json
  scripts/start_vllm_ollama.sh --detach
TEXT
}

PID_FILE=penstock.pid
LOG_FILE=penstock.log

absolute() { # PATH: make it absolute; relative paths begin at the caller's folder
    case $1 in
    /*) printf '%s\n' "$1" ;;
    *) printf '%s/%s\n' "$FROM" "$1" ;;
    esac
}

FROM=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/environment.sh
. scripts/environment.sh
# shellcheck source=scripts/processes.sh
. scripts/processes.sh

action=run
arguments=()
while [ $# -gt 0 ]; do
    case $1 in
    --detach) action=detach ;;
    --stop) action=stop ;;
    -h | --help)
        usage
        exit 0
        ;;
    -c | --config)
        [ $# -gt 1 ] || die "$1 needs a file; see --help"
        arguments+=(--config "$(absolute "$2")")
        shift
        ;;
    --config=*) arguments+=(--config "$(absolute "${1#*=}")") ;;
    '' | *[!0-9]*) arguments+=("$1") ;;
    *) # a number is the port if it comes first, else the value of an option
        [ ${#arguments[@]} -gt 0 ] || arguments=(--port)
        arguments+=("$1")
        ;;
    esac
    shift
done

detach() {
    local pid status=0
    nohup .venv/bin/penstock serve "$@" </dev/null >>"$LOG_FILE" 2>&1 &
    pid=$!
    printf '%s\n' "$pid" >"$PID_FILE"
    if .venv/bin/python scripts/startup_report.py report "$url" "$pid" "$mode" "$model"; then
        say "It runs in the background (process $pid), its log is $LOG_FILE; --stop ends it."
        return
    fi
    kill -TERM "$pid" 2>/dev/null || true
    wait "$pid" || status=$?
    rm -f "$PID_FILE"
    tail -n 5 "$LOG_FILE" >&2
    exit "$((status ? status : 1))"
}

if [ $action = stop ]; then
    stop_running "$PID_FILE" penstock gateway
    exit
fi
if [ $action = detach ] && pid=$(running "$PID_FILE" penstock); then
    die "A detached gateway runs already (process $pid); --stop ends it."
fi

install_from requirements.lock
set -- ${arguments[@]+"${arguments[@]}"}
found=$(.venv/bin/python scripts/startup_report.py address "$@")
read -r url mode model <<ADDRESS
$found
ADDRESS
if [ $action = detach ]; then
    detach "$@"
else
    # The gateway takes this process's place, so that signals and its exit code are its own.
    (.venv/bin/python scripts/startup_report.py report "$url" $$ "$mode" "$model" &)
    exec .venv/bin/penstock serve "$@"
fi

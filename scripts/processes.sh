# Sourced by the scripts: processes that are left running, each known by a pid file. Works with bash 3.2 (macOS).
# shellcheck shell=bash

STOP_TIMEOUT=45 # seconds; the gateway gives its streams 30 to finish

running() { # PID_FILE NAME: print the process of that file if its command still contains the name
    local pid
    pid=$(cat "$1" 2>/dev/null) || return 1
    case $pid in '' | *[!0-9]*) return 1 ;; esac
    case $(ps -p "$pid" -o args= 2>/dev/null || true) in
    *"$2"*) printf '%s\n' "$pid" ;;
    *) return 1 ;;
    esac
}

stop_running() { # PID_FILE NAME TITLE
    local pid left=$((STOP_TIMEOUT * 10))
    if ! pid=$(running "$1" "$2"); then
        rm -f "$1"
        say "No $3 was left running from this checkout."
        return
    fi
    say "Stopping the $3 (process $pid)"
    kill -TERM "$pid"
    while kill -0 "$pid" 2>/dev/null; do
        [ "$left" -gt 0 ] || die "Process $pid still runs after $STOP_TIMEOUT s; 'kill -9 $pid' ends it with its streams."
        left=$((left - 1))
        sleep 0.1
    done
    rm -f "$1"
    say "Stopped."
}

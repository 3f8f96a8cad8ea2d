# Sourced by the scripts: messages, and steps that print their progress. Works with bash 3.2 (macOS).
# shellcheck shell=bash

PROGRESS_INTERVAL=5 # seconds between two lines of a step that is still running

say() { printf '%s\n' "$*"; }

die() {
    printf '%s\n' "$@" >&2
    exit 1
}

# run_step TITLE COMMAND...: run a command with its output in a log. Prints a line when it begins, a line every
# PROGRESS_INTERVAL seconds, a line with the time it took, and the end of the log when it fails. Returns the command's
# status.
run_step() {
    local title=$1 log status=0 printer started=$SECONDS
    shift
    log=$(mktemp "${TMPDIR:-/tmp}/penstock-step.XXXXXX")
    say "==> $title"
    print_progress "$log" &
    printer=$!
    "$@" >"$log" 2>&1 </dev/null || status=$?
    kill "$printer" 2>/dev/null || true
    wait "$printer" 2>/dev/null || true
    if [ "$status" -eq 0 ]; then
        say "    done in $((SECONDS - started)) s"
    else
        printf '    failed after %s s with status %s: %s\n' "$((SECONDS - started))" "$status" "$*" >&2
        tail -n 25 "$log" | sed 's/^/    | /' >&2
    fi
    rm -f "$log"
    return "$status"
}

print_progress() { # LOG: print how long the step has been running and the last line of its log, until killed or the script has ended
    local started=$SECONDS
    while sleep "$PROGRESS_INTERVAL" >/dev/null 2>&1 && kill -0 $$ 2>/dev/null; do # Ctrl-C does not reach a background process
        printf '    ... %s s  %s\n' "$((SECONDS - started))" "$(tail -n 1 "$1" 2>/dev/null | tr -d '\r' | cut -c 1-100)"
    done
}

#!/bin/sh
# stage.sh [--last] NAME COMMAND...: run one stage of the checks and print how long it took.
# With --last the time is left to the command, so that its own closing line ends the output.
set -u
last=no
if [ "$1" = --last ]; then last=yes; shift; fi
name=$1
shift
printf '== %s\n' "$name"
started=$(date +%s)
"$@"
status=$?
[ "$status" -eq 0 ] || { printf '== %s FAILED (exit %s)\n' "$name" "$status" >&2; exit "$status"; }
[ "$last" = yes ] || printf '== %s: %s s\n' "$name" "$(($(date +%s) - started))"

#!/bin/bash
# One slice of work: Snakemake for some minutes, then all that runs is saved; the next call goes on.
#
#   node/slice.sh 20 --config study=paper
#   node/slice.sh 20 table_5 --config study=paper
#
# MINUTES may have decimals; saving takes some seconds more. What follows is Snakemake's.
# Exit status: 0, the targets are there; 75, time was over and all is saved, call again; 143, 130 or
# 129, SIGTERM, SIGINT or SIGHUP came and all is saved; else Snakemake's own.
set -u

if ! [[ ${1:-} =~ ^[0-9]+(\.[0-9]+)?$ && $1 =~ [1-9] ]]; then
    echo "usage: node/slice.sh MINUTES [SNAKEMAKE ARGUMENTS]" >&2
    exit 2
fi
minutes=$1
shift
cd "$(dirname "$0")/.." || exit 1

work='' status=0
# Ask the whole process group, since Snakemake alone would wait for its jobs, and wait for all of it.
end() {
    trap '' TERM INT HUP
    kill -TERM -- "-$work" 2>/dev/null || kill -TERM "$work" 2>/dev/null
    wait "$work"
    status=$?
    while kill -0 -- "-$work" 2>/dev/null; do
        sleep 0.2
    done
}
stopped() {
    [ -n "$work" ] && end
    echo "slice: stopped; what ran is saved, and the same command goes on" >&2
    exit "$1"
}
trap 'stopped 143' TERM
trap 'stopped 130' INT
trap 'stopped 129' HUP

# timeout sends SIGTERM to the whole group, which setsid makes one of its own.
setsid timeout --preserve-status "${minutes}m" snakemake --profile node "$@" &
work=$!
wait "$work"
end
case $status in
    0) echo "slice: the targets are there" >&2 ;;
    75 | 143) # 143: time was over before any job began
        status=75
        echo "slice: $minutes minutes are over; what ran is saved, and the same command goes on" >&2
        ;;
    *) echo "slice: Snakemake ended with status $status" >&2 ;;
esac
exit "$status"

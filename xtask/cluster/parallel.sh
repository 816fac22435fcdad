#!/bin/bash
# GNU parallel: its master is killed while cells run, and the same command goes on to the same bytes.
. "$(dirname "$0")/common.sh"
write_grid 40
locally
ok "the local engine, to compare with"

printf 'at_once = 2\ngpus = 1\n' >"$place/cluster.toml"
submit=("$rslad" grid submit "$place/grid.toml" --out "$place/out" --engine parallel --cluster "$place/cluster.toml")
"${submit[@]}" >"$place/first.log" 2>&1 &
until_so 60 "two cells that have begun" eval 'begun "$place/out" one && begun "$place/out" two'
master=$(for pid in $(ours); do grep -aq '/parallel' "/proc/$pid/cmdline" 2>/dev/null && echo "$pid"; done | head -1)
[ -n "$master" ] || fail "no process of GNU parallel"
for pid in $(ours); do
    name=$(tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null)
    case $name in *'grid submit'* | *parallel*) kill -9 "$pid" 2>/dev/null ;; esac
done
wait
finished "$place/out" student && fail "the grid was done before its master was killed"
ok "kill -9 of the master and of rslad above it; its cells run on"

"${submit[@]}" >"$place/second.log" 2>&1 || fail "the second submission: $(tail -5 "$place/second.log")"
same_bytes "$place/out"
ok "the same command again: nothing lost, same bytes"
[ -s "$place/out/logs/joblog.tsv" ] || fail "no joblog"
grep -q 'CUDA_VISIBLE_DEVICES=1' "$place/out/logs/joblog.tsv" || fail "no cell was given the second GPU"
ok "the joblog has every cell, with the GPU of its slot"

write_grid 60
"$rslad" grid submit "$place/grid.toml" --out "$place/out2" --engine parallel >"$place/third.log" 2>&1 &
submitted=$!
until_so 60 "a cell that has begun" eval 'begun "$place/out2" one'
kill -TERM $submitted
wait $submitted
code=$?
[ $code -eq 75 ] || fail "told to stop it ended with $code, expected 75: $(tail -3 "$place/third.log")"
left=$(for pid in $(ours); do tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q ' cell ' && echo "$pid"; done)
[ -z "$left" ] || fail "cells still run after it: $left"
ok "TERM: every cell saved and stopped, exit code 75"

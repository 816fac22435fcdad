#!/bin/bash
# Open MPI: ranks share a run; with fixed shards they end with the bytes of one process, also when a rank is
# killed on the way; and ranks that were given different things stop before the first step.
. "$(dirname "$0")/common.sh"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_oob_tcp_if_include=lo
launch=(mpirun --oversubscribe --bind-to none)

recipe() { # recipe EPOCHS SHARDS: the words of a run of a few seconds
    words=(train --recipe digits/resnet18-rslad --set student.width=4 --set data.limit=480
        --set select.hold_out=32 --set data.batch=64 --set schedule.warmup=0 --set 'schedule.drops=[1]'
        --set schedule.epochs="$1" --set inner.steps=3)
    [ "$2" = 0 ] || words+=(--set "parallel={ shards = $2, running = 'first' }")
}

same() { # same DIR DIR FILE...
    local one=$1 other=$2 file
    shift 2
    for file in "$@"; do cmp -s "$one/$file" "$other/$file" || fail "$file of $one and $other differ"; done
}
results=(last.safetensors best.safetensors metrics.jsonl)

recipe 3 4
"$rslad" "${words[@]}" --out "$place/n1" >"$place/n1.log" 2>&1 || fail "one process: $(tail -3 "$place/n1.log")"
for n in 1 2 4; do
    "${launch[@]}" -n $n "$rslad" "${words[@]}" --out "$place/mpi$n" >"$place/mpi$n.log" 2>&1 ||
        fail "$n ranks: $(tail -3 "$place/mpi$n.log")"
    same "$place/n1" "$place/mpi$n" "${results[@]}"
done
ok "4 fixed shards: 1, 2 and 4 ranks end with the bytes of a process without MPI"

recipe 3 0
"${launch[@]}" -n 2 "$rslad" "${words[@]}" --out "$place/free" >"$place/free.log" 2>&1 ||
    fail "2 ranks: $(tail -3 "$place/free.log")"
"${launch[@]}" -n 2 "$rslad" "${words[@]}" --out "$place/again" >"$place/again.log" 2>&1 ||
    fail "2 ranks again: $(tail -3 "$place/again.log")"
same "$place/free" "$place/again" "${results[@]}"
recipe 3 2
"$rslad" "${words[@]}" --out "$place/two" >"$place/two.log" 2>&1 || fail "two shards: $(tail -3 "$place/two.log")"
same "$place/free" "$place/two" metrics.jsonl
ok "without them, 2 ranks hold equal weights at every save, and every time end with the same"

recipe 1 0
words+=(--set "parallel={ batch_norm = 'synchronized' }")
"$rslad" "${words[@]}" --out "$place/sync1" >"$place/sync1.log" 2>&1 || fail "one process: $(tail -3 "$place/sync1.log")"
"${launch[@]}" -n 2 "$rslad" "${words[@]}" --out "$place/sync2" >"$place/sync2.log" 2>&1 ||
    fail "2 ranks, synchronized: $(tail -3 "$place/sync2.log")"
first_loss() { grep -m1 -o '"loss":[-0-9.e]*' "$1/metrics.jsonl" | cut -d: -f2; }
awk -v a="$(first_loss "$place/sync1")" -v b="$(first_loss "$place/sync2")" \
    'BEGIN { exit !(a > 0 && (a - b) ^ 2 < (1e-5 * a) ^ 2) }' ||
    fail "synchronized, the first loss is $(first_loss "$place/sync1") on one process and $(first_loss "$place/sync2") on two"
ok "with synchronized batch normalization 2 ranks begin as one process does"

recipe 40 4
"$rslad" "${words[@]}" --out "$place/whole" >"$place/whole.log" 2>&1 || fail "whole: $(tail -3 "$place/whole.log")"
"${launch[@]}" -n 2 "$rslad" "${words[@]}" --out "$place/killed" >"$place/killed.log" 2>&1 &
launched=$!
rank_one() {
    local pid
    for pid in $(ours); do
        tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -qx OMPI_COMM_WORLD_RANK=1 && echo "$pid"
    done
}
until_so 60 "rank 1" eval '[ -n "$(rank_one)" ]' # looked for first: the run is short, and looking is slow
rank=$(rank_one)
until_so 60 "a saved state" test -s "$place/killed/LATEST.json"
kill -9 $rank || fail "rank 1 ended by itself"
wait $launched && fail "a run whose rank was killed ended well"
[ -e "$place/killed/last.safetensors" ] && fail "the run was done before its rank was killed"
left=$(for pid in $(ours); do tr '\0' ' ' <"/proc/$pid/cmdline" 2>/dev/null | grep -q ' train ' && echo "$pid"; done)
[ -z "$left" ] || fail "ranks run on: $left"
ok "kill -9 of a rank ends the job"
"${launch[@]}" -n 4 "$rslad" "${words[@]}" --out "$place/killed" >"$place/killed2.log" 2>&1 &
launched=$!
epoch=$(grep -c '"saved"' "$place/killed/metrics.jsonl")
until_so 60 "another epoch" eval '[ "$(grep -c \"saved\" "$place/killed/metrics.jsonl")" -gt "$epoch" ]'
kill -USR1 $launched
wait $launched
code=$?
[ $code -eq 75 ] || fail "told to stop it ended with $code, expected 75: $(tail -5 "$place/killed2.log")"
"${launch[@]}" -n 2 "$rslad" "${words[@]}" --out "$place/killed" >"$place/killed3.log" 2>&1 ||
    fail "to the end: $(tail -3 "$place/killed3.log")"
same "$place/whole" "$place/killed" "${results[@]}"
ok "4 ranks go on, are told to stop (USR1), 2 go on: the bytes of the undisturbed run"

recipe 3 0
"${launch[@]}" -n 1 "$rslad" "${words[@]}" --out "$place/odd" : \
    -n 1 "$rslad" "${words[@]}" --seed 1 --out "$place/odd" >"$place/odd.log" 2>&1
code=$?
[ $code -eq 2 ] || fail "ranks that differ ended with $code, expected 2: $(tail -3 "$place/odd.log")"
grep -q 'rank 1 of 2 differ in recipe' "$place/odd.log" || fail "not named: $(cat "$place/odd.log")"
[ -e "$place/odd" ] && fail "something was written"
"${launch[@]}" -n 1 "$rslad" "${words[@]}" --out "$place/odd" : \
    -n 1 "$rslad" "${words[@]}" --data tensors:none.safetensors --out "$place/odd" >"$place/odd.log" 2>&1
code=$?
[ $code -eq 3 ] && grep -q 'error: rank 1:' "$place/odd.log" ||
    fail "a rank that fails alone ended all with $code: $(tail -3 "$place/odd.log")"
ok "a rank with another recipe, or without its data: all stop before the first step, and it is named"

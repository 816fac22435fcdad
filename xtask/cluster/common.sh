# What the cluster tests share: a place, a grid, the proof of its bytes, and an end to all that was started.
# Sourced by the test of each engine, with RSLAD_BINARY and RSLAD_XTASK set.
set -uo pipefail

rslad=$RSLAD_BINARY
place=$(mktemp -d "${TMPDIR:-/tmp}/rslad-cluster.XXXXXX")
# In the environment of everything that is started from here, daemons and jobs too.
export RSLAD_CLUSTER_TEST=$place
export RSLAD_THREADS=1 RAYON_NUM_THREADS=1

ours() { # the processes that carry the mark, but for this shell and its like
    local pid
    for pid in /proc/[0-9]*; do
        pid=${pid#/proc/}
        [ "$pid" = $$ ] && continue
        { tr '\0' '\n' <"/proc/$pid/environ"; } 2>/dev/null | grep -qxF "RSLAD_CLUSTER_TEST=$place" && echo "$pid"
    done
}

end() {
    local code=$?
    trap '' INT TERM
    trap - EXIT
    local round pid
    for round in TERM KILL KILL; do
        for pid in $(ours); do kill -$round "$pid" 2>/dev/null; done
        sleep 0.3
    done
    [ $code -eq 0 ] || [ -z "${RSLAD_CLUSTER_KEEP:-}" ] || { echo "kept: $place"; exit $code; }
    rm -rf "$place"
    exit $code
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
    printf 'FAILED: %s\n' "$*"
    exit 1
}

ok() { printf '  ok    %3d s  %s\n' $SECONDS "$*"; }

until_so() { # until_so SECONDS WHAT COMMAND...: waits for it, or fails
    local deadline=$((SECONDS + $1)) what=$2
    shift 2
    until "$@"; do
        [ $SECONDS -lt $deadline ] || fail "waited in vain for $what"
        sleep 0.3
    done
}

# A cell that takes a few seconds, so that there is time to disturb it.
cell() { # cell NAME RECIPE EPOCHS MORE
    printf '[[cell]]\nkind = "train"\nname = "%s"\nrecipe = "digits/resnet18-%s"\nseed = 0\n' "$1" "$2"
    printf 'set = { "student.width" = 4, "data.limit" = 480, "select.hold_out" = 32, "data.batch" = 64, '
    printf '"schedule.warmup" = 0, "schedule.drops" = [1], "schedule.epochs" = %s, "inner.steps" = 3 }\n%s\n' "$3" "$4"
}

write_grid() { # write_grid EPOCHS: two teachers, a student of each, an evaluation in two blocks
    {
        printf 'schema = 1\nname = "cluster test"\ntitle = "Cluster test"\n'
        cell one sat "$1" ""
        cell two trades "$1" ""
        cell student rslad 2 'teacher = { cell = "one", checkpoint = "best" }'
        for part in 1 2; do
            printf '[[cell]]\nkind = "eval"\nname = "part%s"\nmodel = { cell = "student", checkpoint = "best" }\n' $part
            printf 'data = "digits"\nsplit = "test"\nn = 60\nsuite = ["quick"]\neps = ["0.1"]\nseed = 0\n'
            printf 'shard = "%s/2"\n' $part
        done
        printf '[[cell]]\nkind = "merge"\nname = "merged"\nparts = ["part1", "part2"]\n'
        printf 'row = { student = "resnet18", method = "rslad", checkpoint = "best" }\n'
    } >"$place/grid.toml"
}

bytes() { # the hashes of a grid's results, without times
    (cd "$1" && find . -name 'best.safetensors' -o -name 'last.safetensors' -o -name 'metrics.jsonl' \
        -o -name 'per_example.safetensors' | sort | xargs sha256sum)
}

same_bytes() { # same_bytes DIR [LOCAL]: as the local engine made them
    diff <(bytes "${2:-$place/local}") <(bytes "$1") >"$place/diff" || fail "other bytes than local: $(cat "$place/diff")"
}

locally() {
    "$rslad" -q grid submit "$place/grid.toml" --out "$place/local" --threads 2 >"$place/local.log" 2>&1 ||
        fail "the local engine: $(tail -3 "$place/local.log")"
}

finished() { # finished DIR NAME
    compgen -G "$1/$2-????????????/DONE.json" >/dev/null
}

begun() { # begun DIR NAME: a state is saved, and it is not done
    compgen -G "$1/$2-????????????/LATEST.json" >/dev/null && ! finished "$1" "$2"
}

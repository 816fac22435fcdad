#!/bin/bash
# Slurm: two nodes on this host over loopback, with daemons, keys and state of their own. A grid is
# submitted, one task told that its limit is near, another task's node killed; all ends with the same bytes
# as the local engine, and the report comes last. Then a table, which ends as on the local engine too.
. "$(dirname "$0")/common.sh"
write_grid 120
locally
ok "the local engine, to compare with"

me=$(id -un)
mkdir -p "$place/munge" "$place/ctld" "$place/n1" "$place/n2"
chmod 700 "$place/munge"
dd if=/dev/urandom of="$place/munge/key" bs=64 count=1 2>/dev/null
chmod 400 "$place/munge/key"
munged --key-file="$place/munge/key" --socket="$place/munge/socket" --pid-file="$place/munge/pid" \
    --log-file="$place/munge/log" --seed-file="$place/munge/seed" --force >"$place/munge/out" 2>&1 ||
    fail "munged: $(cat "$place/munge/out")"

host=$(hostname -s)
cat >"$place/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=17000
SlurmUser=$me
SlurmdUser=$me
AuthType=auth/munge
AuthInfo=socket=$place/munge/socket,cred_expire=10
CredType=cred/munge
StateSaveLocation=$place/ctld
SlurmctldPidFile=$place/ctld/pid
SlurmctldLogFile=$place/ctld/log
SlurmdSpoolDir=$place/%n
SlurmdPidFile=$place/%n/pid
SlurmdLogFile=$place/%n/log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
InactiveLimit=0
KillWait=15
MinJobAge=300
SchedulerParameters=sched_interval=3,bf_interval=3,batch_sched_delay=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
NodeName=n1 NodeHostname=$host NodeAddr=127.0.0.1 Port=17001 CPUs=1
NodeName=n2 NodeHostname=$host NodeAddr=127.0.0.1 Port=17002 CPUs=1
PartitionName=all Nodes=n1,n2 Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF=$place/slurm.conf
node() { slurmd -N "$1" -f "$SLURM_CONF" >"$place/$1/out" 2>&1 || fail "slurmd of $1: $(cat "$place/$1/out")"; }
slurmctld -f "$SLURM_CONF" >"$place/ctld/out" 2>&1 || fail "slurmctld: $(cat "$place/ctld/out")"
node n1
node n2
state() { sinfo -h -N -o '%N %t' 2>/dev/null | grep -q "^$1 $2"; }
until_so 30 "two nodes" eval 'state n1 idle && state n2 idle'
ok "two nodes on one host"

printf 'at_once = 2\noptions = ["--chdir=%s"]\n' "$place" >"$place/cluster.toml"
jobs=$("$rslad" grid submit "$place/grid.toml" --out "$place/out" --engine slurm --cluster "$place/cluster.toml" \
    2>"$place/submit.log") || fail "submit: $(tail -3 "$place/submit.log")"
first=${jobs%% *}
last=${jobs##* }
field() { scontrol show job "$1" 2>/dev/null | grep -oE "(^|[[:space:]])$2=[^[:space:]]+" | head -1 | cut -d= -f2; }
until_so 60 "both teachers on their nodes" eval 'begun "$place/out" one && begun "$place/out" two'
ok "an array of cells runs on both nodes; jobs $jobs"

# What Slurm does ahead of a limit: TERM to the batch shell alone.
scancel --batch --signal=TERM "${first}_0"
requeued() { [ "$(field "${first}_0" Restarts)" = 1 ]; }
until_so 30 "task 0 in the queue again" requeued
[ "$(field "${first}_1" Restarts)" = 0 ] || fail "task 1 was requeued with it"
ok "TERM ahead of the limit: saved, and that task alone requeued"

# A node dies: its daemon, what watches over its job, and the job.
dead=$(field "${first}_1" NodeList)
job=$(for pid in $(ours); do
    tr '\0' '\n' <"/proc/$pid/environ" 2>/dev/null | grep -qx "SLURMD_NODENAME=$dead" && echo "$pid"
done)
watchers=$(for pid in $job; do
    above=$(ps -o ppid= -p "$pid" | tr -d ' ')
    ps -o args= -p "$above" 2>/dev/null | grep -q '^slurmstepd' && echo "$above"
done)
[ -n "$job" ] && [ -n "$watchers" ] || fail "no job on $dead"
kill -9 $watchers "$(cat "$place/$dead/pid")" $job
finished "$place/out" two && fail "the cell was done before its node died"
until_so 60 "$dead to be down" eval "state $dead down"
ok "kill -9 of the daemons of $dead and of its job: the node is down"
node "$dead"

until_so 240 "the report" eval '[ "$(field "$last" JobState)" = COMPLETED ]'
same_bytes "$place/out"
[ "$(field "${first}_1" Restarts)" = 1 ] || fail "task 1 was not requeued when its node died"
ok "nothing lost: same bytes as the local engine"
grep -q 'merged' "$place/out/report/report.json" || fail "the report lacks the evaluation that was merged of blocks"
ok "the report came after all, with the evaluation merged of its blocks"

# A canceled task stays canceled, and the report shows what is missing.
write_grid 400
jobs=$("$rslad" grid submit "$place/grid.toml" --out "$place/out2" --engine slurm --cluster "$place/cluster.toml" \
    2>"$place/submit2.log") || fail "submit: $(tail -3 "$place/submit2.log")"
first=${jobs%% *}
last=${jobs##* }
until_so 60 "a cell that has begun" eval 'begun "$place/out2" one'
scancel "$first"
until_so 90 "the report" eval 'case "$(field "$last" JobState)" in COMPLETED | FAILED) true ;; *) false ;; esac'
[ "$(field "${first}_0" JobState)" = CANCELLED ] || fail "a canceled task is $(field "${first}_0" JobState)"
"$rslad" grid status "$place/grid.toml" --out "$place/out2" >"$place/status.log" 2>&1
grep -q '0 of 6 cells finished' "$place/status.log" || fail "status: $(cat "$place/status.log")"
ok "scancel: the cell saved its state and stays canceled, those that need it end and say so"

# A row of a table of the paper's kind, by the command for tables.
table() { # table DIR ENGINE...
    "$RSLAD_XTASK" reproduce digits --scale smoke --only natural --out "$@" >"$1.out" 2>"$1.log" ||
        fail "reproduce: $(tail -3 "$1.log")"
}
table "$place/table-here" --engine local
table "$place/table" --engine slurm --cluster "$place/cluster.toml"
last=$(tail -1 "$place/table.out")
last=${last##* }
until_so 120 "the table's report" eval '[ "$(field "$last" JobState)" = COMPLETED ]'
same_bytes "$place/table" "$place/table-here"
[ -s "$place/table/digits-smoke/cells/report/report.html" ] || fail "the table has no report"
ok "reproduce --engine slurm: same bytes as --engine local, and the report"

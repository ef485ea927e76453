#!/usr/bin/env bash
# A run of sas_jax.main on a slice of Cloud TPU, from the request to the deletion.
#
#   launch/tpu_vm.sh COMMAND [--dry_run] [-- FLAGS OF sas_jax.main]
#
#   create   asks for the slice (a queued resource) and waits until it is there. Again: waits on.
#   setup    puts this checkout (its last commit) on all workers, and installs it.
#   run      starts python -m sas_jax.main on all workers and watches it to its end. Again: watches on.
#            A preempted run is started again, on a new slice where the old one was taken.
#   status   what there is, and what it does.
#   logs     copies the log of each worker to runs/launch/NAME/logs and shows their ends.
#   fetch    copies the workdir and all logs from the bucket to runs/NAME and runs/launch/NAME/logs.
#   delete   deletes what create made, and nothing else.
#
# --dry_run prints each command and runs none.
#
# Set in the environment:
#   NAME              of the run. The others may be left out after create, which keeps them in runs/launch/NAME/tpu_vm.
#   PROJECT, ZONE     of Google Cloud.
#   ACCELERATOR_TYPE  v5litepod-16, v6e-16, v5p-16, v4-16, ...
#   BUCKET            gs://... for the workdir (runs/NAME), the logs (logs/NAME) and prepared tfds data sets (data), which are
#                     copied to each worker's ~/tensorflow_datasets before the start.
# and, where wanted:
#   CAPACITY          on_demand (the default), spot or reserved.
#   RUNTIME_VERSION   of the TPU's software; else the one for the generation.
#   VALID_UNTIL       6h, say: a request that was not filled by then fails.
#   SERVICE_ACCOUNT   of the workers; else the project's default one.
#   EXTRAS            of sas_jax that setup installs (tpu,gcp).
#   MAX_RESTARTS      how often run starts again (10).
#   POLL_SECONDS      between two looks (30).
#   LOG_LINES         that logs shows of each worker (20).
#   LAUNCH_DIR        instead of runs/launch.
#
# Exit codes: 0; 2 a mistake in what was given; 130 Ctrl-C, which leaves slice and run as they are; else what failed.

set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

RECORDED=(PROJECT ZONE ACCELERATOR_TYPE BUCKET CAPACITY RUNTIME_VERSION VALID_UNTIL SERVICE_ACCOUNT EXTRAS RUN_TOKEN)

# Lines of shell for a worker. There stands ~/run: runner.sh, its pid, the log of the last start (older ones beside it)
# and, once it has ended, exit_code. A pid may be another program's after a restart of the machine.
# shellcheck disable=SC2016  # expanded there, not here
RUNNING='grep -qs run/runner.sh "/proc/$(cat ~/run/pid 2>/dev/null || echo none)/cmdline"'
REPORT="if [ -f ~/run/exit_code ]; then echo \"sas_jax \$(hostname) ended \$(cat ~/run/exit_code)\"
elif $RUNNING; then echo \"sas_jax \$(hostname) running\"
elif [ -d ~/run ]; then echo \"sas_jax \$(hostname) lost\"
else echo \"sas_jax \$(hostname) idle\"; fi"

# How often in a row gcloud may fail to answer before a command gives up.
MAX_UNANSWERED=20

main() {
  parse "$@"
  name_run tpu_vm
  case $COMMAND in
    create)
      trap 'interrupted "stopped here, but $QUEUED stands and may cost: create waits on, delete ends it"' INT TERM
      create
      ;;
    setup | run | status | logs | fetch | delete)
      load created
      "$COMMAND"
      ;;
    *) die "$COMMAND is no command: create, setup, run, status, logs, fetch or delete; see --help" ;;
  esac
}

settings() {
  : "${PROJECT:?set it to the Google Cloud project, such as PROJECT=my-project}"
  : "${ZONE:?set it to a zone that has such TPUs, such as ZONE=us-east5-b}"
  : "${ACCELERATOR_TYPE:?set it to the slice, such as ACCELERATOR_TYPE=v6e-16}"
  check_bucket
  CAPACITY=${CAPACITY:-on_demand} VALID_UNTIL=${VALID_UNTIL:-} SERVICE_ACCOUNT=${SERVICE_ACCOUNT:-}
  EXTRAS=${EXTRAS:-tpu,gcp}
  [[ $CAPACITY =~ ^(on_demand|spot|reserved)$ ]] ||
    die "CAPACITY has to be on_demand, spot or reserved, but is $CAPACITY: mend it"
  RUNTIME_VERSION=${RUNTIME_VERSION:-$(runtime_version)}
}

runtime_version() {
  case $ACCELERATOR_TYPE in
    v6e-*) echo v2-alpha-tpuv6e ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v4-*) echo tpu-ubuntu2204-base ;;
    *) die "no runtime version is known for ACCELERATOR_TYPE=$ACCELERATOR_TYPE: set RUNTIME_VERSION" ;;
  esac
}

name_resources() {
  QUEUED=sas-jax-$NAME-$RUN_TOKEN
  NODE=$QUEUED-node
  AT=("--project=$PROJECT" "--zone=$ZONE")
}

billed() { say "billed: $1 (queued resource) and $2 (TPU $ACCELERATOR_TYPE, $CAPACITY), project $PROJECT, zone $ZONE"; }

create() {
  if [[ -f $RECORD ]]; then
    read_record
    name_resources
    say "$NAME was asked for already; waiting on"
  else
    settings
    ask
  fi
  wait_active
  say "$NAME is there. Next: setup, then run. It costs until: NAME=$NAME launch/tpu_vm.sh delete"
}

# The request. It is recorded before it is made: whatever happens then, delete knows it.
ask() {
  local flags
  new_token
  name_resources
  flags=("--node-id=$NODE" "${AT[@]}" "--accelerator-type=$ACCELERATOR_TYPE" "--runtime-version=$RUNTIME_VERSION")
  flags+=(--scopes=https://www.googleapis.com/auth/cloud-platform)
  [[ -z $SERVICE_ACCOUNT ]] || flags+=("--service-account=$SERVICE_ACCOUNT")
  [[ -z $VALID_UNTIL ]] || flags+=("--valid-until-duration=$VALID_UNTIL")
  [[ $CAPACITY == on_demand ]] || flags+=("--$CAPACITY")
  write_record "${RECORDED[@]}"
  billed "$QUEUED" "$NODE"
  call gcloud compute tpus queued-resources create "$QUEUED" "${flags[@]}" || give_up "the request was refused"
}

interrupted() {
  trap - INT TERM
  say "$1"
  exit 130
}

# Deletes what was asked for, and ends.
give_up() {
  say "$1"
  remove
  exit 1
}

# Runs a command whose words ANSWER gets. In a loop that Ctrl-C ends this is not left to $(...): bash (5.2) may then find
# the trap's own line to be cut short.
answered() {
  local status=0
  ("$@") > "$RECORD.answer" 2>&1 || status=$? # a shell of its own, lest what the trap says goes there too
  IFS= read -r -d '' ANSWER < "$RECORD.answer" || true
  ANSWER=${ANSWER%$'\n'}
  return "$status"
}

# Sets STATE: the queued resource's, GONE where there is none, or UNANSWERED.
look() {
  local describe
  describe=(gcloud compute tpus queued-resources describe "$QUEUED" "${AT[@]}" '--format=value(state.state)')
  if "$DRY_RUN"; then
    quoted "${describe[@]}"
    STATE=ACTIVE
  elif answered "${describe[@]}"; then
    STATE=${ANSWER##*$'\n'}
  elif [[ $ANSWER == *NOT_FOUND* ]]; then
    STATE=GONE
  else
    STATE=UNANSWERED
    say "gcloud does not answer: $ANSWER"
  fi
}

# Waits until the slice is there; deletes it where it will never be.
wait_active() {
  local shown='' unanswered=0 now
  while look; do
    TZ=UTC printf -v now '%(%H:%M:%SZ)T' -1
    [[ $STATE == "$shown" ]] || say "$QUEUED: $STATE ($now)"
    shown=$STATE
    [[ $STATE == UNANSWERED ]] || unanswered=0
    case $STATE in
      ACTIVE) break ;;
      FAILED)
        gcloud compute tpus queued-resources describe "$QUEUED" "${AT[@]}" >&2 || true
        give_up "the request failed"
        ;;
      SUSPENDING | SUSPENDED) give_up "the slice was taken before it was used" ;;
      DELETING | GONE) give_up "somebody deleted the request" ;;
      UNANSWERED) ((++unanswered < MAX_UNANSWERED)) || fail "gcloud did not answer $unanswered times; $QUEUED stands and may cost: create waits on" ;;
    esac
    pause
  done
}

# Runs a line of shell on all workers.
on_workers() {
  call gcloud compute tpus tpu-vm ssh "$NODE" "${AT[@]}" --worker=all "--command=$1" --quiet "${@:2}"
}

setup() {
  local bundle folder
  if "$DRY_RUN"; then folder=/tmp; else folder=$(mktemp -d); fi
  bundle=$folder/sas_jax.bundle
  tell_uncommitted
  call git -C "$ROOT" bundle create --quiet "$bundle" HEAD
  call gcloud compute tpus tpu-vm scp "$bundle" "$NODE:" "${AT[@]}" --worker=all --quiet
  # The images bring Python 3.10, which is too old: uv brings one that is not.
  on_workers "set -eu
if $RUNNING; then echo \"runs on \$(hostname): nothing is changed under it\" >&2; exit 1; fi
rm -rf ~/sas_jax && git -c advice.detachedHead=false clone --quiet ~/sas_jax.bundle ~/sas_jax
python3 -m pip install --quiet --user uv
~/.local/bin/uv venv --quiet --allow-existing --python=3.12 ~/sas_jax-venv
~/.local/bin/uv pip install --quiet --python ~/sas_jax-venv/bin/python --editable ~/sas_jax\"[$EXTRAS]\"
cd ~/sas_jax && ~/sas_jax-venv/bin/python -c 'import sas_jax' && echo \"installed on \$(hostname)\""
  "$DRY_RUN" || rm -rf "$folder"
}

start() {
  on_workers "set -eu
if $RUNNING; then echo \"runs already on \$(hostname)\"; exit; fi
mkdir -p ~/run && rm -f ~/run/exit_code ~/run/pid
ln -sfn \"\$(date -u +%Y%m%dT%H%M%SZ)-\$(hostname).log\" ~/run/log
cat > ~/run/runner.sh <<'RUNNER'
log=~/run/\$(readlink ~/run/log)
keep_log() { gcloud storage cp \"\$log\" $(quoted "$BUCKET/logs/$NAME/") --quiet > /dev/null 2>&1; }
trap : TERM
cd ~/sas_jax
mkdir -p ~/tensorflow_datasets
gcloud storage rsync $(quoted "$BUCKET/data") ~/tensorflow_datasets --recursive > \"\$log\" 2>&1 ||
  echo 'no data came from the bucket' >> \"\$log\"
(while sleep 60 && kill -0 \$\$; do keep_log; done) > /dev/null 2>&1 &
keeper=\$! code=0
~/sas_jax-venv/bin/python -m sas_jax.main $(quoted "${FLAGS[@]}") >> \"\$log\" 2>&1 || code=\$?
kill \$keeper
keep_log
echo \$code > ~/run/exit_code.new && mv ~/run/exit_code.new ~/run/exit_code
RUNNER
setsid nohup bash ~/run/runner.sh > /dev/null 2>&1 < /dev/null &
echo \$! > ~/run/pid
echo \"started on \$(hostname)\""
}

run() {
  ((${#ARGUMENTS[@]})) || die "run wants flags of sas_jax.main, such as: run -- --config=configs/cifar100.py"
  main_flags
  trap 'interrupted "no longer watching, but $NAME runs on and costs: run watches on, delete ends it"' INT TERM
  start || say "not all workers were reached"
  watch
}

# Until the run has ended everywhere; starts it again where that helps.
watch() {
  local report line shown='' restarts=0 unanswered=0 code
  while look; do
    report=
    case $STATE in
      ACTIVE)
        if "$DRY_RUN"; then
          on_workers "$REPORT"
          return
        fi
        if answered on_workers "$REPORT"; then
          while IFS= read -r line; do
            [[ $line != 'sas_jax '* ]] || report+=${report:+$'\n'}$line
          done <<< "$ANSWER"
        fi
        ;;
      GONE | DELETING | FAILED) fail "$QUEUED is $STATE, not by run: see what became of it, then delete" ;;
      SUSPENDING | SUSPENDED)
        [[ $CAPACITY == spot ]] || fail "$QUEUED is $STATE, though it is no spot capacity: see what became of it, then delete"
        say "$QUEUED was preempted"
        restart_allowed
        delete_queued || fail "the preempted $QUEUED could not be deleted and may cost: delete, then create, setup and run"
        ask
        wait_active
        setup
        start
        ;;
    esac
    if [[ -z $report ]]; then
      ((++unanswered < MAX_UNANSWERED)) || fail "the workers did not answer $unanswered times; $NAME stands and costs: run watches on"
    else
      unanswered=0
      [[ $report == "$shown" ]] || echo "$report"
      shown=$report
      case $report in
        *' running'*) ;;
        *' lost'* | *' ended 75'* | *' idle'*)
          say "the run was stopped before its end"
          restart_allowed
          if ! { setup && start; }; then say "not all workers were reached"; fi
          ;;
        *)
          code=$(awk '$4 != 0 { print $4; exit }' <<< "$report")
          say "the run has ended with exit code ${code:-0}. Next: fetch. It costs until: NAME=$NAME launch/tpu_vm.sh delete"
          exit "${code:-0}"
          ;;
      esac
    fi
    pause
  done
}

# Counts a restart of watch; too many are a run that comes no further.
restart_allowed() {
  ((++restarts <= ${MAX_RESTARTS:-10})) || fail "stopped $restarts times (MAX_RESTARTS): see logs; it costs until delete"
  say "starting again ($restarts of at most ${MAX_RESTARTS:-10})"
  shown=
}

status() {
  billed "$QUEUED" "$NODE"
  call gcloud compute tpus queued-resources describe "$QUEUED" "${AT[@]}" '--format=value(state.state)'
  call gcloud compute tpus tpu-vm describe "$NODE" "${AT[@]}" '--format=value(state,health)'
  on_workers "$REPORT"
}

logs() {
  call mkdir -p "$LOGS/now"
  on_workers 'cat ~/run/log' "--output-directory=$LOGS/now"
  call tail -n "${LOG_LINES:-20}" "$LOGS"/now/*.log
}

fetch() {
  fetch_workdir
  call mkdir -p "$LOGS"
  call gcloud storage rsync "$BUCKET/logs/$NAME" "$LOGS" --recursive
}

delete_queued() {
  call gcloud compute tpus queued-resources delete "$QUEUED" "${AT[@]}" --force --quiet && return
  look
  [[ $STATE == GONE ]]
}

# Deletes what was asked for, and the record of it.
remove() {
  say "deleting $QUEUED (queued resource) and $NODE (TPU $ACCELERATOR_TYPE), project $PROJECT, zone $ZONE"
  delete_queued || fail "$QUEUED could not be deleted and may cost: try delete again, or see https://console.cloud.google.com/compute/tpus"
  call rm -f "$RECORD" "$RECORD.answer"
  say "deleted $QUEUED and $NODE"
}

delete() {
  remove
  say "the bucket's files stay and cost: $BUCKET/runs/$NAME, $BUCKET/logs/$NAME, $BUCKET/data"
}

main "$@"

#!/usr/bin/env bash
# Runs sas_jax.main on a Cloud TPU slice, from the request to the deletion.
#
#   launch/tpu_vm.sh COMMAND [--dry_run] [-- FLAGS OF sas_jax.main]
#
#   create   requests the slice (a queued resource) and waits until it is active. Called again, it resumes waiting.
#   setup    installs this checkout's last commit on all workers. Removes the exit code of a run that has ended.
#   run      starts python -m sas_jax.main on all workers and watches it to its end. Called again, it resumes watching; if
#            the run has ended, it says so and exits with its code (to start it again: setup, then run).
#            A preempted run is started again with the commit of setup, on a new slice if the old one was preempted.
#   status   shows the state of the slice and of the run on each worker.
#   logs     shows the end of each worker's log.
#   fetch    copies the workdir and all logs from the bucket to runs/NAME and runs/launch/NAME/logs; also after delete.
#   delete   deletes what create made, and nothing else.
#
# --dry_run prints each command and runs none.
#
# Set in the environment:
#   NAME              of the run. The others may be omitted after create, which stores them in runs/launch/NAME/tpu_vm.
#   PROJECT, ZONE     of Google Cloud.
#   ACCELERATOR_TYPE  v5litepod-16, v6e-16, v5p-16, v4-16, ...
#   BUCKET            gs://... for the workdir (runs/NAME), the logs (logs/NAME) and prepared tfds data sets (data), which are
#                     copied to each worker's ~/tensorflow_datasets before the start.
# and, optionally:
#   CAPACITY          on_demand (the default), spot or reserved.
#   RUNTIME_VERSION   of the TPU's software; by default the one for its generation.
#   VALID_UNTIL       such as 6h: a request that is not fulfilled by then fails.
#   SERVICE_ACCOUNT   of the workers; by default the project's.
#   EXTRAS            of sas_jax that setup installs (tpu,gcp).
#   MAX_RESTARTS      how often run restarts at most (10).
#   POLL_SECONDS      seconds between two polls (30).
#   LOG_LINES         number of lines that logs shows of each worker (20).
#   LAUNCH_DIR        a folder instead of runs/launch.
#
# Exit codes: 0; 2 for invalid input (1 for a missing setting); 130 for Ctrl-C, which leaves slice and run unchanged;
# otherwise that of what failed.

set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

RECORDED=(PROJECT ZONE ACCELERATOR_TYPE BUCKET CAPACITY RUNTIME_VERSION VALID_UNTIL SERVICE_ACCOUNT EXTRAS RUN_TOKEN)

# Shell code for a worker. Its ~/run holds runner.sh, its pid, the log of the last start (older ones beside it) and, once
# the run has ended, exit_code. After a reboot the pid may be another program's. The process is checked first, because it
# writes exit_code before it ends. setup creates ~/installed.
# shellcheck disable=SC2016  # expanded on the worker, not here
RUNNING='grep -qs run/runner.sh "/proc/$(cat ~/run/pid 2>/dev/null || echo none)/cmdline"'
REPORT="if $RUNNING; then echo \"sas_jax \$(hostname) running\"
elif [ -f ~/run/exit_code ]; then echo \"sas_jax \$(hostname) ended \$(cat ~/run/exit_code)\"
elif [ -f ~/run/pid ]; then echo \"sas_jax \$(hostname) lost\"
elif [ -f ~/installed ]; then echo \"sas_jax \$(hostname) idle\"
else echo \"sas_jax \$(hostname) empty\"; fi"

# Consecutive failures of gcloud after which a command gives up.
MAX_UNANSWERED=20

main() {
  parse "$@"
  check_numbers MAX_RESTARTS LOG_LINES
  [[ ${POLL_SECONDS:-30} =~ ^[0-9]*[.]?[0-9]+$ ]] || die "POLL_SECONDS must be a number, got $POLL_SECONDS. Correct it."
  name_run tpu_vm
  BUNDLE=${RECORD%/*}/sas_jax.bundle
  need gcloud git flock
  case $COMMAND in
    create) create ;;
    setup | run | status | logs | fetch | delete)
      load created
      "$COMMAND"
      ;;
    *) die "The command must be create, setup, run, status, logs, fetch or delete, got $COMMAND. Correct it (see --help)." ;;
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
    die "CAPACITY must be on_demand, spot or reserved, got $CAPACITY. Correct it."
  RUNTIME_VERSION=${RUNTIME_VERSION:-$(runtime_version)}
}

runtime_version() {
  case $ACCELERATOR_TYPE in
    v6e-*) echo v2-alpha-tpuv6e ;;
    v5p-*) echo v2-alpha-tpuv5 ;;
    v5litepod-*) echo v2-alpha-tpuv5-lite ;;
    v4-*) echo tpu-ubuntu2204-base ;;
    *) die "ACCELERATOR_TYPE must be one whose runtime version is known, got $ACCELERATOR_TYPE. Set RUNTIME_VERSION." ;;
  esac
}

name_resources() {
  QUEUED=sas-jax-$NAME-$RUN_TOKEN
  NODE=$QUEUED-node
  AT=("--project=$PROJECT" "--zone=$ZONE")
}

billed() { say "billed: $1 (queued resource) and $2 (TPU $ACCELERATOR_TYPE, $CAPACITY), project $PROJECT, zone $ZONE"; }

create() {
  lock
  if [[ -f $RECORD ]]; then
    read_record
    name_resources
    say "$NAME has already been requested; waiting for it"
  else
    settings
    # Checks that Google Cloud answers before anything is recorded.
    call gcloud compute tpus queued-resources list "--project=$PROJECT" "--zone=$ZONE" --limit=1 --format=none ||
      fail "project $PROJECT, zone $ZONE does not answer, so nothing was requested. Fix the error that gcloud reports above."
  fi
  trap 'interrupted "interrupted, but the request remains and may be billed; create resumes waiting, delete deletes it"' INT TERM
  [[ -f $RECORD ]] || ask
  wait_active
  say "$NAME is active. Next: setup, then run. It is billed until you run: NAME=$NAME launch/tpu_vm.sh delete"
}

# Makes the request. It is recorded first, so that delete knows it whatever happens.
ask() {
  local flags
  new_token
  name_resources
  flags=("--node-id=$NODE" "${AT[@]}" "--accelerator-type=$ACCELERATOR_TYPE" "--runtime-version=$RUNTIME_VERSION")
  flags+=(--scopes=https://www.googleapis.com/auth/cloud-platform)
  [[ -z $SERVICE_ACCOUNT ]] || flags+=("--service-account=$SERVICE_ACCOUNT")
  [[ -z $VALID_UNTIL ]] || flags+=("--valid-until-duration=$VALID_UNTIL")
  [[ $CAPACITY == on_demand ]] || flags+=("--$CAPACITY")
  write_record
  billed "$QUEUED" "$NODE"
  call gcloud compute tpus queued-resources create "$QUEUED" "${flags[@]}" || give_up "the request was refused"
}

# Deletes what was requested, and exits.
give_up() {
  say "$1"
  remove
  exit 1
}

# Runs a command and sets ANSWER to its output. $(...) is not used: in a loop that Ctrl-C ends, bash (5.2) may then report
# the trap's own line as incomplete.
answered() {
  local status=0
  ("$@") > "$RECORD.answer" 2>&1 9>&- || status=$? # a shell of its own, lest what the trap says goes there too
  IFS= read -r -d '' ANSWER < "$RECORD.answer" || true
  ANSWER=${ANSWER%$'\n'}
  return "$status"
}

# Sets STATE to that of the queued resource, GONE if there is none, or UNANSWERED.
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

# Waits until the slice is active; deletes the request if it cannot become active.
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
        call gcloud compute tpus queued-resources describe "$QUEUED" "${AT[@]}" >&2 || true
        give_up "the request failed"
        ;;
      SUSPENDING | SUSPENDED) give_up "the slice was preempted; run create to request another" ;;
      DELETING | GONE) give_up "the request was deleted by someone else" ;;
      UNANSWERED) ((++unanswered < MAX_UNANSWERED)) || fail "gcloud did not answer $unanswered times; $QUEUED remains and may be billed; create resumes waiting" ;;
    esac
    pause
  done
}

# Runs shell code on all workers.
on_workers() {
  call gcloud compute tpus tpu-vm ssh "$NODE" "${AT[@]}" --worker=all "--command=$1" --quiet "${@:2}"
}

setup() {
  pack && install
}

# Bundles the last commit for this start and the restarts: the checkout may be at another commit by then.
pack() {
  tell_uncommitted
  call git -C "$ROOT" bundle create --quiet "$BUNDLE" HEAD
}

# Copies the bundle to all workers and installs it. Removes the exit code of a run that has ended.
install() {
  [[ -f $BUNDLE ]] || "$DRY_RUN" || pack || return
  call gcloud compute tpus tpu-vm scp "$BUNDLE" "$NODE:" "${AT[@]}" --worker=all --quiet || return
  # The images' Python 3.10 is too old: uv installs a newer one.
  on_workers "set -eu
if $RUNNING; then echo \"a run is in progress on \$(hostname), so nothing is installed there\" >&2; exit 1; fi
rm -rf ~/sas_jax ~/installed && git -c advice.detachedHead=false clone --quiet ~/sas_jax.bundle ~/sas_jax
python3 -m pip install --quiet --user uv
~/.local/bin/uv venv --quiet --allow-existing --python=3.12 ~/sas_jax-venv
~/.local/bin/uv pip install --quiet --python ~/sas_jax-venv/bin/python --editable ~/sas_jax\"[$EXTRAS]\"
cd ~/sas_jax && ~/sas_jax-venv/bin/python -c 'import sas_jax'
rm -f ~/run/exit_code ~/run/pid && touch ~/installed && echo \"installed on \$(hostname)\""
}

# Sets START: shell code that starts the run on a worker unless it is running there.
prepare_start() {
  START="set -eu
if $RUNNING; then echo \"already running on \$(hostname)\"; exit; fi
if ! [ -f ~/installed ]; then echo \"nothing is installed on \$(hostname)\" >&2; exit 1; fi
mkdir -p ~/run && rm -f ~/run/exit_code ~/run/pid
ln -sfn \"\$(date -u +%Y%m%dT%H%M%SZ)-\$(hostname).log\" ~/run/log
cat > ~/run/runner.sh <<'RUNNER'
log=~/run/\$(readlink ~/run/log)
keep_log() { gcloud storage cp \"\$log\" $(quoted "$BUCKET/logs/$NAME/") --quiet > /dev/null 2>&1; }
trap : TERM
cd ~/sas_jax
mkdir -p ~/tensorflow_datasets
gcloud storage rsync $(quoted "$BUCKET/data") ~/tensorflow_datasets --recursive > \"\$log\" 2>&1 ||
  echo 'no data was copied from the bucket' >> \"\$log\"
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
  ((${#ARGUMENTS[@]})) || die "Flags of sas_jax.main must be given, got none. Give some, such as: run -- --config=configs/cifar100.py"
  main_flags
  prepare_start
  trap 'interrupted "no longer watching, but $NAME remains and is billed; run resumes watching, delete deletes it"' INT TERM
  watch
}

# Watches until the run has ended on all workers; starts it where it was not started, and restarts it where that helps.
watch() {
  local report line shown='' restarts=0 unanswered=0 code
  while look; do
    report=
    case $STATE in
      ACTIVE)
        if "$DRY_RUN"; then
          on_workers "$REPORT"
          on_workers "$START"
          return
        fi
        if answered on_workers "$REPORT"; then
          while IFS= read -r line; do
            [[ $line != 'sas_jax '* ]] || report+=${report:+$'\n'}$line
          done <<< "$ANSWER"
        fi
        ;;
      UNANSWERED) ;;
      GONE | DELETING | FAILED) fail "$QUEUED is $STATE. Check what happened to it, then run delete, create, setup and run again." ;;
      SUSPENDING | SUSPENDED)
        [[ $CAPACITY == spot ]] || fail "$QUEUED is $STATE, although its capacity is not spot. Check what happened to it, then run delete."
        say "$QUEUED was preempted"
        restart_allowed
        delete_queued || fail "the preempted $QUEUED could not be deleted and may be billed. Run delete, then create, setup and run."
        ask
        continue
        ;;
      *) report=$STATE ;; # asked for, and not there yet
    esac
    if [[ -z $report ]]; then
      ((++unanswered < MAX_UNANSWERED)) || fail "the workers did not answer $unanswered times; $NAME remains and is billed; run resumes watching"
    else
      unanswered=0
      [[ $report == "$shown" ]] || echo "$report"
      shown=$report
      case $report in
        *' idle'*) on_workers "$START" || not_reached ;;
        *' running'* | "$STATE") ;;
        *' lost'* | *' ended 75'*)
          say "the run was stopped before it ended"
          restart_allowed
          { install && on_workers "$START"; } || say "not all workers were reached"
          ;;
        *' empty'*) { install && on_workers "$START"; } || not_reached ;;
        *)
          code=$(awk '$4 != 0 { print $4; exit }' <<< "$report")
          say "the run has ended with exit code ${code:-0}. Next: fetch, or setup and run to start it again." \
            "It is billed until you run: NAME=$NAME launch/tpu_vm.sh delete"
          exit "${code:-0}"
          ;;
      esac
    fi
    pause
  done
}

# Counts a restart of watch; after too many the run is assumed to make no progress.
restart_allowed() {
  ((++restarts <= ${MAX_RESTARTS:-10})) || fail "stopped $restarts times, more than MAX_RESTARTS allows. See logs. The slice is billed until you run delete."
  say "restarting ($restarts of at most ${MAX_RESTARTS:-10})"
  shown='' unanswered=0
}

not_reached() {
  say "not all workers were reached"
  restart_allowed
}

status() {
  billed "$QUEUED" "$NODE"
  # Until the slice is active there is no TPU to describe.
  call gcloud compute tpus queued-resources describe "$QUEUED" "${AT[@]}" '--format=value(state.state)' || true
  call gcloud compute tpus tpu-vm describe "$NODE" "${AT[@]}" '--format=value(state,health)' || true
  on_workers "$REPORT"
}

# gcloud's --output-directory is not used: it opens None/0.log (SDK 528). sort groups the interleaved lines by worker.
logs() {
  on_workers "tail -n ${LOG_LINES:-20} ~/run/log | sed \"s/^/\$(hostname): /\"" | sort --stable --field-separator=: --key=1,1
}

# Copies the logs first, because they explain a missing workdir.
fetch() {
  local status=0
  call mkdir -p "$LOGS"
  call gcloud storage rsync "$BUCKET/logs/$NAME" "$LOGS" --recursive || status=$?
  fetch_workdir
  return "$status"
}

delete_queued() {
  call gcloud compute tpus queued-resources delete "$QUEUED" "${AT[@]}" --force --quiet && return
  look
  [[ $STATE == GONE ]]
}

# Deletes what was requested, and renames its record.
remove() {
  say "deleting $QUEUED (queued resource) and $NODE (TPU $ACCELERATOR_TYPE), project $PROJECT, zone $ZONE"
  delete_queued || fail "$QUEUED could not be deleted and may be billed. Run delete again, or see" \
    "https://console.cloud.google.com/compute/tpus; if it is not listed there, remove $RECORD."
  call rm -f "$RECORD.answer" "$BUNDLE"
  drop_record
  say "deleted $QUEUED and $NODE"
}

delete() {
  remove
  say "the bucket's files remain and are billed: $BUCKET/runs/$NAME, $BUCKET/logs/$NAME, $BUCKET/data"
}

main "$@"

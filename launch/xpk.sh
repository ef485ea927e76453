#!/usr/bin/env bash
# Runs sas_jax.main on TPUs of a GKE cluster, by xpk. The cluster must exist (xpk cluster create).
#
#   launch/xpk.sh COMMAND [--dry_run] [-- FLAGS OF sas_jax.main]
#
#   run      submits this checkout's last commit as a workload; GKE restarts it when it is preempted.
#   status   shows the cluster's list entry of the workload.
#   logs     shows the workers' last lines.
#   fetch    copies the workdir from the bucket to runs/NAME; also after delete.
#   delete   deletes the workload that run submitted, and nothing else.
#
# --dry_run prints each command and runs none.
#
# Set in the environment:
#   NAME           of the run. The others may be omitted after run, which stores them in runs/launch/NAME/xpk.
#   PROJECT, ZONE  of Google Cloud.
#   CLUSTER        created by xpk.
#   TPU_TYPE       of the cluster: v5litepod-16, v6e-16, ...
#   BUCKET         gs://... for the workdir (runs/NAME) and prepared tfds data sets (data), which are copied to each
#                  worker's ~/tensorflow_datasets before the start.
# and, optionally:
#   NUM_SLICES     number of slices of that type (1).
#   BASE_IMAGE     with Python 3.11 or newer and pip (python:3.12).
#   EXTRAS         of sas_jax that are installed (tpu,gcp).
#   MAX_RESTARTS   how often it is restarted at most (10).
#   LOG_LINES      number of lines that logs shows (200).
#   LAUNCH_DIR     a folder instead of runs/launch.
#
# Exit codes: 0; 2 for invalid input (1 for a missing setting); 130 for Ctrl-C; otherwise that of what failed.

set -euo pipefail
# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

RECORDED=(PROJECT ZONE CLUSTER BUCKET RUN_TOKEN)

main() {
  parse "$@"
  check_numbers MAX_RESTARTS LOG_LINES NUM_SLICES
  name_run xpk
  need gcloud git flock xpk kubectl
  case $COMMAND in
    run) run ;;
    status | logs | fetch | delete)
      load submitted
      "$COMMAND"
      ;;
    *) die "The command must be run, status, logs, fetch or delete, got $COMMAND. Correct it (see --help)." ;;
  esac
}

settings() {
  : "${PROJECT:?set it to the Google Cloud project, such as PROJECT=my-project}"
  : "${ZONE:?set it to the zone of the cluster, such as ZONE=us-east5-b}"
  : "${CLUSTER:?set it to the name of a cluster that xpk made, such as CLUSTER=my-cluster}"
  check_bucket
}

name_resources() {
  WORKLOAD=$NAME-$RUN_TOKEN
  AT=("--cluster=$CLUSTER" "--project=$PROJECT" "--zone=$ZONE")
}

run() {
  local copy line
  lock
  [[ ! -f $RECORD ]] || die "NAME must be a new one, got $NAME, which was submitted already ($RECORD). Delete it first, or choose another."
  ((${#ARGUMENTS[@]})) || die "Flags of sas_jax.main must be given, got none. Give some, such as: run -- --config=configs/cifar100.py"
  settings
  : "${TPU_TYPE:?set it to the slice, such as TPU_TYPE=v6e-16}"
  main_flags
  new_token
  name_resources
  # Checks that the cluster answers before anything is recorded.
  status || fail "cluster $CLUSTER does not answer, so nothing was submitted. Fix the error that xpk reports above."
  FOLDER=/tmp
  if ! "$DRY_RUN"; then
    FOLDER=$(mktemp -d)
    trap 'rm -rf "$FOLDER"' EXIT
  fi
  tell_uncommitted
  call git clone --quiet --no-hardlinks "$ROOT" "$FOLDER/sas_jax"
  say "billed while it runs: workload $WORKLOAD (${NUM_SLICES:-1} x $TPU_TYPE), cluster $CLUSTER, project $PROJECT"
  copy="import gcsfs, os; gcsfs.GCSFileSystem().get('$BUCKET/data/', os.path.expanduser('~/tensorflow_datasets/'), recursive=True)"
  line="pip install --quiet --editable '.[${EXTRAS:-tpu,gcp}]'"
  line+=" && { python -c $(quoted "$copy") || echo 'no data was copied from the bucket'; }"
  line+=" && exec python -m sas_jax.main $(quoted "${FLAGS[@]}")"
  trap 'interrupted "interrupted, but $WORKLOAD may have been submitted and billed; status shows it, delete deletes it"' INT TERM
  # Recorded before it is created, so that delete knows it whatever happens.
  write_record
  # Exit code 75 is a preempted run, 1 one that lost another host; 2, a user's mistake, is not restarted.
  call xpk workload create "--workload=$WORKLOAD" "${AT[@]}" "--tpu-type=$TPU_TYPE" "--num-slices=${NUM_SLICES:-1}" \
    "--max-restarts=${MAX_RESTARTS:-10}" --restart-on-exit-codes=1,75 --termination-grace-period-seconds=120 \
    "--base-docker-image=${BASE_IMAGE:-python:3.12}" "--script-dir=$FOLDER/sas_jax" \
    "--command=$line" || give_up
  say "submitted. Next: status, logs, fetch. To delete it: NAME=$NAME launch/xpk.sh delete"
}

# Deletes what a failed submission may have left, and exits.
give_up() {
  say "the workload was not submitted"
  delete
  exit 1
}

status() { call xpk workload list "${AT[@]}" "--filter-by-job=$WORKLOAD"; }

# gcloud prints the newest lines first, and by default only those of one day.
logs() {
  call gcloud logging read "resource.type=\"k8s_container\" AND labels.\"k8s-pod/jobset_sigs_k8s_io/jobset-name\"=\"$WORKLOAD\"" \
    "--project=$PROJECT" "--limit=${LOG_LINES:-200}" --freshness=30d '--format=value(resource.labels.pod_name,textPayload)' | tac
}

fetch() { fetch_workdir; }

# Whether the cluster has no such workload: it was never created, or it ended and was removed there.
is_gone() {
  local list
  list=$(status) && ! grep -q "^$WORKLOAD " <<< "$list"
}

delete() {
  say "deleting workload $WORKLOAD, cluster $CLUSTER, project $PROJECT"
  call xpk workload delete "--workload=$WORKLOAD" "${AT[@]}" --force || is_gone ||
    fail "$WORKLOAD could not be deleted and may be billed. Run delete again, or see xpk workload list; if it is not" \
      "listed there, remove $RECORD."
  drop_record
  say "deleted $WORKLOAD. The cluster remains and is billed, and so are the bucket's files, $BUCKET/runs/$NAME and $BUCKET/data," \
    "and the image that xpk created, gcr.io/$PROJECT/...-runner"
}

main "$@"

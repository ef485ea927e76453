# Functions that the scripts share; sourced by all but slurm.sbatch, which SLURM copies to another folder.
# shellcheck shell=bash
# shellcheck disable=SC2034  # the scripts use the variables

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
DRY_RUN=false

say() {
  if "$DRY_RUN"; then set -- "(dry run) $*"; fi
  echo "${0##*/}: $*" >&2
}

# Prints a message and exits with 2: the user's input is invalid.
die() {
  say "$*"
  exit 2
}

# Prints a message and exits with 1: an operation failed.
fail() {
  say "$*"
  exit 1
}

# Prints the comment at the head of the script.
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$0"; }

# Prints its arguments as a shell command line, with quotes only where needed.
quoted() {
  local word line=''
  for word; do
    case $word in
      '' | *[!A-Za-z0-9_./:=@%+,-]*) word=\'${word//\'/\'\\\'\'}\' ;;
    esac
    line+="$word "
  done
  echo "${line% }"
}

# Runs a command; in a dry run prints it. The lock (9) is closed for it: a command that outlives the script would hold it.
call() {
  if "$DRY_RUN"; then quoted "$@"; else "$@" 9>&-; fi
}

# Splits the command line into COMMAND, DRY_RUN and ARGUMENTS (those after --).
parse() {
  COMMAND='' ARGUMENTS=()
  while (($#)); do
    case $1 in
      -h | --help)
        usage
        exit 0
        ;;
      --dry_run) DRY_RUN=true ;;
      --)
        shift
        ARGUMENTS=("$@")
        break
        ;;
      -*) die "Flags before -- must be those of this script, got $1. Put flags of sas_jax.main after -- (see --help)." ;;
      *)
        [[ -z $COMMAND ]] || die "Exactly one command must be given, got $COMMAND and $1. Omit one (see --help)."
        COMMAND=$1
        ;;
    esac
    shift
  done
  [[ -n $COMMAND ]] || die "A command must be given, got none. Give one (see --help)."
  if [[ $COMMAND != run && ${#ARGUMENTS[@]} -gt 0 ]]; then
    die "Flags of sas_jax.main must be given to the command run only, got some for $COMMAND. Omit them."
  fi
  refuse_dry_run "${ARGUMENTS[@]}"
}

# Exits if --dry_run is among the flags of sas_jax.main, where it would have no effect.
refuse_dry_run() {
  local flag
  for flag; do
    [[ ! $flag =~ ^--?dry_run(=|$) ]] || die "$flag must come before --, got it after --, where it would not prevent a real run. Put --dry_run before --."
  done
}

# Exits if one of these settings is set, but not to a whole number.
check_numbers() {
  local name
  for name; do
    [[ ${!name:-0} =~ ^(0|[1-9][0-9]*)$ ]] || die "$name must be a whole number, got ${!name}. Correct it."
  done
}

# Exits if one of these programs is missing.
need() {
  "$DRY_RUN" && return
  local program
  for program; do
    command -v "$program" > /dev/null || die "$program must be on PATH, but was not found there. Install it (see launch/README.md)."
  done
}

# Checks the run's name, and sets the paths of its RECORD (a file) and LOGS (a folder).
name_run() {
  : "${NAME:?set it to a name for the run, such as NAME=cifar100}"
  [[ $NAME =~ ^[a-z]([a-z0-9-]{0,20}[a-z0-9])?$ ]] ||
    die "NAME must be 1 to 22 lowercase letters, digits and dashes, with a letter first and no dash last, got $NAME. Choose another."
  RECORD=${LAUNCH_DIR:-$ROOT/runs/launch}/$NAME/$1
  LOGS=${LAUNCH_DIR:-$ROOT/runs/launch}/$NAME/logs
  [[ ! -e $RECORD || -f $RECORD ]] || die "$RECORD must be a file, got something else. Move it away, or choose another NAME."
}

# Locks NAME until the script ends, so that no other command changes it.
lock() {
  "$DRY_RUN" && return
  mkdir -p "${RECORD%/*}"
  exec 9>> "$RECORD.lock"
  flock --nonblock 9 || die "$NAME must not be in use by another process, got process $(< "$RECORD.lock"). End it first (press Ctrl-C there, or kill it)."
  echo $$ > "$RECORD.lock"
}

# Writes the variables named in the script's RECORDED to RECORD, atomically.
write_record() {
  "$DRY_RUN" && return
  local field
  for field in "${RECORDED[@]}"; do echo "$field=${!field}"; done > "$RECORD.new"
  mv -T "$RECORD.new" "$RECORD"
}

# Sets the variables that RECORD names. Exits if one has another value already: commands work only on what was created.
read_record() {
  local field value read=' '
  while IFS='=' read -r field value; do
    [[ " ${RECORDED[*]} " == *" $field "* ]] || unreadable "unknown field $field"
    [[ -z ${!field:-} || ${!field} == "$value" ]] ||
      die "$field must be $value, as when $NAME was created, got ${!field}. Unset it, or choose another NAME."
    printf -v "$field" '%s' "$value"
    read+="$field "
  done < "$RECORD"
  for field in "${RECORDED[@]}"; do
    [[ $read == *" $field "* ]] || unreadable "$field is missing"
  done
}

unreadable() { die "$RECORD must be the record of $NAME, got an invalid one ($1). Correct it, or remove it if no resources of $NAME exist any more."; }

# Renames the record of a deleted run, so that the run can still be fetched.
drop_record() { call mv -T "$RECORD" "$RECORD.deleted"; }

# Loads the settings of the first command from its record or, in a dry run without one, from the environment. $1 names
# that command in the error ("created"). The script defines `settings`, which checks the environment, and `name_resources`.
load() {
  if [[ $COMMAND == fetch && ! -f $RECORD && -f $RECORD.deleted ]]; then RECORD=$RECORD.deleted; fi
  if [[ -f $RECORD ]]; then
    [[ $COMMAND =~ ^(status|logs|fetch)$ ]] || lock
    read_record
  elif "$DRY_RUN"; then
    settings
    new_token
  else
    die "$NAME was not $1 from this checkout, or was deleted ($RECORD does not exist). See --help for the order of the commands."
  fi
  name_resources
}

# Called by traps: prints a message and exits with 130.
interrupted() {
  trap - INT TERM
  say "$1"
  exit 130
}

# Sets RUN_TOKEN, six characters that make names unique: resources with it were created here.
new_token() {
  if "$DRY_RUN"; then RUN_TOKEN=dryrun; else RUN_TOKEN=$(od -An -N3 -tx1 /dev/urandom | tr -d ' \n'); fi
}

# Sets FLAGS: those that launching determines, then the user's.
main_flags() {
  local flag
  for flag in "${ARGUMENTS[@]}"; do
    [[ $flag =~ ^--?workdir(=|$) ]] && die "The workdir must be $BUCKET/runs/$NAME (from BUCKET and NAME), got $flag. Omit it."
  done
  FLAGS=(--distributed "--workdir=$BUCKET/runs/$NAME" "${ARGUMENTS[@]}")
}

check_bucket() {
  : "${BUCKET:?set it to a bucket, or a folder in one, such as BUCKET=gs://my-bucket/sas_jax}"
  [[ $BUCKET == gs://* && $BUCKET != */ ]] ||
    die "BUCKET must be gs://... without a / at its end, got $BUCKET. Correct it."
}

# Copies the workdir from the bucket to runs/NAME.
fetch_workdir() {
  call mkdir -p "$ROOT/runs/$NAME"
  call gcloud storage rsync "$BUCKET/runs/$NAME" "$ROOT/runs/$NAME" --recursive
}

# Warns of uncommitted changes: only commits are copied, so that a run can name its commit.
tell_uncommitted() {
  if ! "$DRY_RUN" && [[ -n $(git -C "$ROOT" status --porcelain 9>&-) ]]; then
    say "this checkout has uncommitted changes, which are not copied"
  fi
}

# Waits for POLL_SECONDS, or until a signal arrives.
pause() {
  sleep "${POLL_SECONDS:-30}" 9>&- &
  wait $!
}

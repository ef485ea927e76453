#!/usr/bin/env bash
# Runs sas_jax.main in N processes on this machine, to rehearse a run on several hosts.
#
#   launch/local.sh N [--dry_run] -- FLAGS OF sas_jax.main
#
# Each process logs to runs/launch/local/process-K.log (LOGS sets another folder); the first one's log is shown. SIGTERM
# and Ctrl-C are passed on to all: they save and exit with 75, and the same command resumes. If one fails, the others get
# SIGTERM, and are killed after GRACE_SECONDS (60). The exit code is that of the first that failed.
# JAX_PLATFORMS (cpu) sets JAX's backend, PYTHON (python) the interpreter.
#
# --dry_run prints each command and runs none.

set -euo pipefail

# shellcheck source=launch/common.sh
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

N=''
while (($#)); do
  case $1 in
    -h | --help)
      usage
      exit 0
      ;;
    --dry_run) DRY_RUN=true ;;
    --)
      shift
      break
      ;;
    *)
      [[ $1 =~ ^[1-9][0-9]*$ && -z $N ]] ||
        die "The number of processes must be one whole number, 1 or more, got${N:+ $N and} $1. Put flags of sas_jax.main after --."
      N=$1
      ;;
  esac
  shift
done
: "${N:?give the number of processes first, such as: local.sh 2 -- --config=configs/digits.py}"
(($#)) || die "Flags of sas_jax.main must be given, got none. Give some, such as: local.sh $N -- --config=configs/digits.py"
refuse_dry_run "$@"
check_numbers GRACE_SECONDS
LOGS=${LOGS:-runs/launch/local}

# Prints a port that nothing listens on.
free_port() {
  local port=$((20000 + RANDOM % 20000))
  while (: < "/dev/tcp/localhost/$port") 2> /dev/null; do port=$((20000 + RANDOM % 20000)); done
  echo "$port"
}

export JAX_NUM_PROCESSES=$N JAX_COORDINATOR_ADDRESS
export JAX_PLATFORMS=${JAX_PLATFORMS:-cpu}
JAX_COORDINATOR_ADDRESS=localhost:$(free_port)
COMMAND=("${PYTHON:-python}" -m sas_jax.main --distributed "$@")

if "$DRY_RUN"; then
  for ((k = 0; k < N; k++)); do
    echo "JAX_PLATFORMS=$JAX_PLATFORMS JAX_COORDINATOR_ADDRESS=$JAX_COORDINATOR_ADDRESS JAX_NUM_PROCESSES=$N" \
      "JAX_PROCESS_ID=$k ${COMMAND[*]@Q} > $LOGS/process-$k.log 2>&1 &"
  done
  exit 0
fi

declare -A RUNNING=() # the processes' places in the run, by their pids
CODE=0
END='' # in SECONDS: when what still runs is killed

ask_to_end() {
  local pid
  for pid in "${!RUNNING[@]}"; do kill -TERM "$pid" 2> /dev/null || true; done
}

mkdir -p "$LOGS"
trap ask_to_end INT TERM
for ((k = 0; k < N; k++)); do
  : > "$LOGS/process-$k.log" # by now: tail may come before the process
  JAX_PROCESS_ID=$k "${COMMAND[@]}" >> "$LOGS/process-$k.log" 2>&1 < /dev/null &
  RUNNING[$!]=$k
  ((k)) || FIRST=$!
done
tail --pid="$FIRST" -s 0.2 -n +1 -f "$LOGS/process-0.log" &
SHOWN=$!

while ((${#RUNNING[@]})); do
  for pid in "${!RUNNING[@]}"; do
    if kill -0 "$pid" 2> /dev/null; then continue; fi
    k=${RUNNING[$pid]} status=0
    unset "RUNNING[$pid]"
    wait "$pid" || status=$?
    if ((status && !CODE)); then
      CODE=$status
      say "process $k ended with exit code $status ($LOGS/process-$k.log)"
      ask_to_end
      END=$((SECONDS + ${GRACE_SECONDS:-60}))
    fi
  done
  if [[ -n $END ]] && ((SECONDS > END && ${#RUNNING[@]})); then
    kill -KILL "${!RUNNING[@]}" 2> /dev/null || true
  fi
  sleep 0.2 &
  wait $! || true # a signal ends the waiting
done
wait "$SHOWN" || true
exit "$CODE"

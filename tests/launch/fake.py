"""Replaces gcloud, xpk, git, sbatch and others: records its calls, and does what the test has scheduled.

$FAKE/calls.jsonl gets [program, argument, ...] of each call. $FAKE/play.json holds, by name, a list of what the first
call, the second, ... do (the last entry repeats):
    "states"   the printed state of a queued resource; NOT_FOUND and UNAVAILABLE are errors.
    "reports"  the workers' reports of the run, a list of lines; a number is gcloud's exit code.
    other      (the first words of a command): exit codes; text is printed; HANG waits until the process is ended.
With $FAKE/workers (a home folder for each worker), shell code for the workers is really run. sbatch really runs the
script; git writes the bundles that it is asked for.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

FAKE = Path(os.environ["FAKE"])


def main() -> int:
    call = [Path(sys.argv[0]).name, *sys.argv[1:]]
    with (FAKE / "calls.jsonl").open("a") as file:
        file.write(json.dumps(call) + "\n")
    line = " ".join(call)
    worker_line = next((word.removeprefix("--command=") for word in call if word.startswith("--command=")), None)
    if "queued-resources describe" in line and (state := turn("states")) is not None:
        return describe(state)
    if (FAKE / "workers").exists() and call[0] == "gcloud" and worker_line is not None:
        return on_workers(worker_line)
    if worker_line is not None and "sas_jax $(hostname)" in worker_line and (report := turn("reports")) is not None:
        if isinstance(report, int):
            return report
        print("\n".join(report))
        return 0
    if call[0] == "git" and "bundle" in call:
        Path(call[-2]).write_text("")
    if call[0] == "sbatch":
        return submit(call[1:])
    for name in json.loads((FAKE / "play.json").read_text()):
        if line.startswith(name):
            return play(turn(name))
    return 0


def play(part):
    if part == "HANG":
        time.sleep(300)
    if isinstance(part, str):
        print(part)
        return 0
    return part


def submit(words):
    """Submits as SLURM does: copies the script to another folder and runs it in the current one."""
    script, *flags = words[next(k for k, word in enumerate(words) if not word.startswith("--")) :]
    copy = shutil.copy(script, FAKE / "slurm_script")
    return subprocess.run(["bash", copy, *flags], env=os.environ | {"SLURM_JOB_ID": "7"}, check=False).returncode


def turn(name):
    """Returns what is scheduled for this call; None if nothing is."""
    play = json.loads((FAKE / "play.json").read_text())
    if name not in play:
        return None
    now, *later = play[name]
    if later:
        (FAKE / "play.json").write_text(json.dumps(play | {name: later}))
    return now


def describe(state):
    if state in ("NOT_FOUND", "UNAVAILABLE"):
        print(f"ERROR: (gcloud.compute.tpus.queued-resources.describe) {state}: it is so", file=sys.stderr)
        return 1
    print(state)
    return 0


def on_workers(line):
    codes = []
    for home in sorted((FAKE / "workers").iterdir()):
        settings = os.environ | {"HOME": str(home), "FAKE_HOST": home.name}
        codes.append(subprocess.run(["bash", "-c", line], env=settings, check=False).returncode)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())

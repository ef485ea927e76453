"""What to run first on a GPU or TPU, within a time limit: checks, speeds, then the whole method on CIFAR-100.

    python -m benchmarks.accelerator --minutes=25 --output=DIR --images=cifar100.npz

The parts run in order of value: kernels compared with a CPU's, training compared with PyTorch, selection from
embeddings, the proxy with its embeddings and rankings, and the arms of a config in their order. Finished parts are kept
in DIR: the same command skips them and resumes interrupted ones. accelerator.json records the progress of each part,
the hardware and the versions. The .npz holds train_images (uint8 [n, h, w, 3]), train_labels (int [n]), test_images and
test_labels. tensorflow-datasets, grain, ml-collections, tensorboardX and PyTorch are optional.
"""

import argparse
import datetime
import importlib.util
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from benchmarks import accelerator_check, cases, training_cases
from benchmarks.selection import _start, _write
from benchmarks.training import _call
from benchmarks.training_measure import IMPLEMENTATIONS

GRACE = 20.0
"""Seconds between SIGTERM and SIGKILL for a part, in which a training run saves its state."""

UNPARTITIONED = (50_000, 1_281_167)
FINISHED = ("measured", "skipped")


class Step(NamedTuple):
    """A process of a part.

    Attributes:
        name: key in accelerator.json.
        command: arguments of `python -m`.
        done: whether the output already has the step's result; by default, whether an earlier call exited with 0.
        environment: variables added to this process's.
    """

    name: str
    command: tuple[str, ...]
    done: Callable[[], bool] | None = None
    environment: dict[str, str] = {}  # noqa: RUF012


class Ended(Exception):
    """Ends a part with a status and a reason."""


def main() -> None:
    options = _options()
    end = time.monotonic() + 60 * options.minutes
    options.output.mkdir(parents=True, exist_ok=True)
    summary = options.output / "accelerator.json"
    results = _start(summary)  # exits if the directory has results of other hardware
    results |= {"command": shlex.join(["python", "-m", "benchmarks.accelerator", *sys.argv[1:]])}
    results.pop("cases", None)  # only other benchmarks have them
    backend = results["environment"]["backend"]
    for name in options.parts:
        part = results.setdefault("parts", {}).setdefault(name, {"steps": {}})
        try:
            status = _do(part["steps"], PARTS[name](options, backend), options, end, lambda: _write(results, summary))
        except Ended as ended:
            status = ended.args
        part["status"], part["reason"] = status
        _write(results, summary)
        print(f"{name}: {': '.join(filter(None, status))}", flush=True)


def _do(
    kept: dict[str, Any], steps: Iterator[Step], options: argparse.Namespace, end: float, keep: Callable[[], None]
) -> tuple[str, str]:
    """Runs the unfinished steps of a part until the time is up.

    Args:
        kept: date, seconds and exit code of the steps run so far, by name; updated in place.
        steps: the steps of the part.
        options: the command's options.
        end: the deadline, by time.monotonic.
        keep: called after each step.

    Returns:
        The part's status and, if it is not "done", the reason.
    """
    failed = []
    over = ("unfinished", "the time limit was reached; run the same command to resume")
    for step in steps:

        def done(step: Step = step) -> bool:
            return step.done() if step.done else kept.get(step.name, {}).get("code") == 0

        if done():
            continue
        start = time.monotonic()
        left = end - start - options.reserve
        if left <= 0:
            return over
        limit = str(max(1, int(left - GRACE)))  # of the processes that the step itself starts
        command = [sys.executable, "-m", *(word.replace("{limit}", limit) for word in step.command)]
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(options.output / "xla")} | step.environment
        log = options.output / f"{step.name}.log"
        code = _call(command, environment, log, limit=left, grace=min(GRACE, left / 2))
        seconds = time.monotonic() - start
        date = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
        kept[step.name] = {"date": date, "seconds": round(seconds, 1), "code": code}
        keep()
        print(f"  {step.name}: {seconds:.0f} s", flush=True)
        if code is None:
            return over
        if not done():
            lines = log.read_text(errors="replace").strip().splitlines() or ["no message"]
            failed.append(f"{step.name} exited with code {code}: {lines[-1][:300]}")
    return ("failed", "; ".join(failed)) if failed else ("done", "")


def _kernels(options: argparse.Namespace, backend: str) -> Iterator[Step]:
    del backend
    output, quick = options.output, ("--quick",) * options.quick
    files = [output / "kernels-here.npz", output / "kernels-cpu.npz"]
    for file, platform in zip(files, ({}, {"JAX_PLATFORMS": "cpu"}), strict=True):
        yield Step(file.stem, ("benchmarks.accelerator_check", str(file), *quick), file.exists, platform)
    if all(file.exists() for file in files):
        here, cpu = (dict(np.load(file)) for file in files)
        compared = accelerator_check.compare(here, cpu)
        (output / "kernels.json").write_text(json.dumps(compared, indent=1) + "\n")
        if far := [name for name, found in compared.items() if not found["within"]]:
            raise Ended(
                "failed", f"results differ from a CPU's by more than the tolerance: {', '.join(far)}; see kernels.json"
            )


def _training(options: argparse.Namespace, backend: str) -> Iterator[Step]:
    output = options.output / "training.json"
    found = training_cases.quick() if options.quick else training_cases.standard(backend)
    for case in found:
        for name, implementation in IMPLEMENTATIONS.items():
            if case.part not in implementation.parts or backend not in implementation.backends:
                continue
            command = ("benchmarks.training", f"--output={output}", f"--only={case.name}", f"--implementations={name}")
            command += ("--limit={limit}", *(["--quick"] if options.quick else []))
            yield Step(f"{case.name}-{name}", command, _measured(output, case.name, name))


def _selection(options: argparse.Namespace, backend: str) -> Iterator[Step]:
    del backend
    output = options.output / "selection.json"
    sizes = (300,) if options.quick else UNPARTITIONED
    for size in sizes:
        for objective in cases.OBJECTIVES:
            name = cases.from_embeddings(objective, size).name
            command = ("benchmarks.selection", f"--output={output}", f"--only={name}", "--implementations=sas_jax")
            command += ("--runs=1", f"--unpartitioned={size}")
            yield Step(name, command, _measured(output, name, "sas_jax"))


def _measured(output: Path, case: str, implementation: str) -> Callable[[], bool]:
    """Returns a function that checks whether a benchmark's json has this result, measured or skipped."""

    def done() -> bool:
        if not output.exists():
            return False
        results = json.loads(output.read_text())["cases"].get(case, {}).get("results", {})
        return results.get(implementation, {}).get("status") in FINISHED

    return done


def _proxy(options: argparse.Namespace, backend: str) -> Iterator[Step]:
    del backend
    yield Step("proxy", (*_run(options), "--stop_after=rank"))


def _arms(options: argparse.Namespace, backend: str) -> Iterator[Step]:
    del backend
    yield Step("arms", _run(options))


def _run(options: argparse.Namespace) -> tuple[str, ...]:
    """Returns the command of the whole method, on the given images or those of the config."""
    command = ("benchmarks.stand_ins", "sas_jax.main", f"--config={options.config}")
    command += (f"--workdir={options.output / 'run'}",)
    if options.images:
        folder = write_images(options.images, options.output / "images")
        command += ("--config.data.name=folder", f"--config.data.folder={folder / 'train'}")
        if (folder / "test").exists():
            command += (f"--config.data.test_folder={folder / 'test'}",)
        # Streaming needs grain, which may be missing.
        command += ("--config.data.placement=device",)
    elif missing := [name for name in ("tensorflow_datasets", "grain") if not _installed(name)]:
        raise Ended("skipped", f"{' and '.join(missing)} cannot be imported; pass the images as --images=FILE.npz")
    return (*command, *(f"--config.{field}" for field in options.field))


PARTS = {"kernels": _kernels, "training": _training, "selection": _selection, "proxy": _proxy, "arms": _arms}
"""Functions from the options and the backend to the steps of a part, in order of value."""


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def write_images(file: Path, folder: Path) -> Path:
    """Writes the images of an .npz or .npy as PNGs, one folder per class, unless `folder` exists.

    Args:
        file: .npz with train_images and optionally train_labels, test_images, test_labels; or .npy of training images.
        folder: receives train/ and, if there are test images, test/.
    """
    if folder.exists():
        return folder
    found = np.load(file)
    arrays = {"train_images": found} if isinstance(found, np.ndarray) else dict(found)
    aside = folder.with_name(folder.name + ".new")
    for split in ("train", "test"):
        labels = arrays.get(f"{split}_labels")
        for i, image in enumerate(arrays.get(f"{split}_images", ())):
            place = aside / split if labels is None else aside / split / f"{labels[i]:04d}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(place / f"{i:07d}.png", compress_level=1)
    aside.rename(folder)
    return folder


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, required=True, help="time limit of the whole command, in minutes")
    parser.add_argument(
        "--output", type=Path, required=True, help="output directory; results in it are not measured again"
    )
    parser.add_argument("--parts", default=",".join(PARTS), help="the parts to run, separated by commas")
    parser.add_argument("--images", type=Path, help="an .npz or .npy file to use instead of the config's data set")
    parser.add_argument("--config", default="configs/compare_cifar100.py", help="config of the proxy and the arms")
    parser.add_argument(
        "--field", action="append", default=[], help="config field to set, section.field=value; repeatable"
    )
    parser.add_argument("--reserve", type=float, default=15, help="seconds of the time limit to leave unused")
    parser.add_argument("--quick", action="store_true", help="run tiny cases, to check that everything works")
    options = parser.parse_args()
    options.output, options.parts = options.output.resolve(), options.parts.split(",")
    for name in options.parts:
        if name not in PARTS:
            parser.error(f"--parts must be some of {', '.join(PARTS)}, got {name}. Correct the name.")
    if options.images and not options.images.is_file():
        parser.error(f"--images must be an .npz or .npy file, got {options.images}. Correct the path.")
    if options.minutes <= 0:
        parser.error(f"--minutes must be over 0, got {options.minutes:g}. Increase it.")
    return options


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # ends the child process, too
    main()

"""A small training run in a separate process, to be killed, stopped, or run on several hosts.

    python tests/training/child.py DIRECTORY [--epochs=3] [--distributed] [--streamed] ...

It writes DIRECTORY/final.npz, the trained parameters, when it is done.
"""

import argparse
import sys
import time
from pathlib import Path

import flax.linen as nn
import jax
import numpy as np

SIZE, BATCH, N = 8, 8, 40


class Encoder(nn.Module):
    """The smallest network that shows what a ResNet would, because each of several processes compiles it again."""

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        x = nn.Conv(8, (3, 3), use_bias=False)(images)
        return nn.relu(nn.BatchNorm(use_running_average=not train, momentum=0.9)(x)).mean(axis=(1, 2))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("directory", type=Path)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--distributed", action="store_true")
    parser.add_argument("--streamed", action="store_true")
    parser.add_argument("--heartbeat_seconds", type=float, default=10.0)
    parser.add_argument("--checkpoint_seconds", type=float, default=0.0)
    parser.add_argument("--step_seconds", type=float, default=0.0, help="a pause before each step")
    options = parser.parse_args()

    from sas_jax import command

    def run() -> None:
        train(options)

    sys.argv = sys.argv[:1]  # the command has no flags here
    command.run(run)


def train(options: argparse.Namespace) -> None:
    import optax
    from ml_collections import ConfigDict

    from sas_jax import devices
    from sas_jax.models import ProjectionHead
    from sas_jax.training import SimCLR, Trainer, feed, fit
    from sas_jax.views import Views
    from sas_jax.workdir import Metrics, Workdir

    jax.config.update("jax_num_cpu_devices", options.devices)
    if options.distributed:
        devices.join(heartbeat_seconds=options.heartbeat_seconds)
    for kind in (feed.Resident, feed.Streamed):
        real = kind.run

        def slowly(self, state, step, count, real=real):
            time.sleep(options.step_seconds)
            return real(self, state, step, count)

        kind.run = slowly
    mesh = devices.mesh()
    method = SimCLR(Encoder(), ProjectionHead(features=16))
    trainer = Trainer(
        method,
        optax.adam(1e-3),
        views=Views(size=SIZE, jitter=0.0, grey=0.0),
        batch_size=BATCH,
        mesh=mesh,
        chunk_steps=2,
    )
    images = np.random.default_rng(0).integers(0, 256, (N, SIZE, SIZE, 3), np.uint8)
    workdir = Workdir(options.directory, writes=devices.is_writer())
    if workdir.writes:
        workdir.mark()
    devices.wait_for_all("the workdir is there")
    metrics = Metrics(workdir)
    result = fit(
        trainer,
        images if options.streamed else trainer.on_devices(images),
        np.arange(N),
        stage="proxy",
        section="config.train",
        steps=options.epochs * (N // BATCH),
        seed=5,
        directory=workdir / "proxy",
        runtime=ConfigDict(
            {
                "checkpoint_epochs": 1,
                "checkpoint_seconds": options.checkpoint_seconds,
                "keep_checkpoints": 2,
                "data_workers": 0,
            }
        ),
        metrics=metrics,
        log=lambda text: print(text, flush=True),
    )
    metrics.close()
    if devices.is_writer():
        leaves = jax.tree.leaves(jax.device_get((result.state.params, result.state.batch_stats)))
        np.savez(options.directory / "final.npz", *leaves)
    print("done", flush=True)


if __name__ == "__main__":
    main()

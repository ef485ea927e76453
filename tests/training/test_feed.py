"""Images decoded in worker processes, from a script without a main guard."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

SCRIPT = """
import sys, types
import jax, numpy as np
from sas_jax import devices
from sas_jax.data import read_folder
from sas_jax.training.feed import Streamed

images = read_folder(sys.argv[1], image_size=8, placement="stream")[0].images
trainer = types.SimpleNamespace(
    batch_size=8,
    mesh=devices.mesh(1),
    horizon=lambda **_: None,
    compile=lambda *_: lambda state, pixels, examples, *_: (state, (examples.tolist(), int(pixels.sum()))),
)
for workers, steps in ((0, 4), (2, 4), (1, 12)):
    feed = Streamed(trainer, images, np.arange(24), key=jax.random.key(0), steps=12, workers=workers)
    seen = [feed.run(None, step, 1)[1] for step in range(steps)]
    feed.close()
    print(seen[:4])
"""


def test_processes_decode_for_a_script_without_a_main_guard_and_leave_nothing_behind(tmp_path):
    for i in range(24):
        Image.fromarray(np.full((9, 9, 3), i, np.uint8)).save(tmp_path / f"{i:02d}.png")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env={"PYTHONPATH": str(Path(__file__).parent.parent.parent), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stderr) == (0, ""), "Python tells of leaked shared memory on stderr"
    threads, two, one = done.stdout.splitlines()
    assert threads == two == one

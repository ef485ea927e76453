"""k-means and ranking in two processes with two devices each, as on two hosts: the result of one process."""

import json
import os
import socket
import subprocess
import sys
import time

import jax
import numpy as np

from sas_jax.latent_classes import kmeans
from sas_jax.selection import greedy
from sas_jax.selection.rank import rank

# With tiles of 1,024 embeddings, each device has one tile.
N, D, BUDGET = 4096, 16, 40

PROCESS = """
import json
import os
import sys
import traceback

import jax
import numpy as np
from etils import epath
from jax.sharding import NamedSharding, PartitionSpec

from sas_jax import devices, embedding
from sas_jax.latent_classes import kmeans
from sas_jax.selection import classwise, greedy
from sas_jax.selection.rank import rank


def fail(*error):
    traceback.print_exception(*error)
    os._exit(1)  # at an ordinary exit JAX would wait for the other process


sys.excepthook = fail
address, place, inputs = sys.argv[1], int(sys.argv[2]), np.load(sys.argv[3])
jax.config.update("jax_num_cpu_devices", 2)
jax.distributed.initialize(address, num_processes=2, process_id=place)
mesh = devices.mesh()
assert mesh.size == 4 and len(jax.local_devices()) == 2


def spread(name, *split):
    # Each process brings what its own devices hold, and no more.
    values, sharding = inputs[name], NamedSharding(mesh, PartitionSpec(*split))
    return jax.make_array_from_callback(values.shape, sharding, lambda part: values[part])


# At once, and with arrays that every process has whole.
options = {name: inputs[name] for name in ("where", "initial", "weights")}
found = {}
found["facility_location"] = greedy.facility_location(
    embeddings=spread("embeddings", "data"), budget=int(inputs["budget"]), mesh=mesh, **options
)

# In steps.
problem = greedy.problem(spread("similarity", None, "data"), objective="sas", mesh=mesh)
state = greedy.start(problem, budget=int(inputs["budget"]))
assert not state.gains.high.is_fully_addressable
while int(state.step) < inputs["budget"]:
    state = greedy.advance(problem, state, 15)
found["sas"] = greedy.result(problem, state)

# Embeddings are written by parts; the classes are found on all devices, and dealt over the processes.
folder = epath.Path(sys.argv[3]).parent
z = inputs["embeddings"][:1001]
embedding.write_parts(folder / "z.npy", np.stack([z[(501 * place + k) % 1001] for k in range(501)]), 1001)
devices.wait_for_all("the file is there")
mapped = np.load(folder / "z.npy", mmap_mode="r")
clusters = kmeans(jax.random.key(2), mapped, num_classes=7, restarts=2, mesh=mesh)
found["kmeans"] = clusters.labels, clusters.centres
classwise._LARGEST_MATRIX = 512  # the class of 700 is more than half of the work: all rank it together
classes = np.minimum(np.arange(1001) % 10, 3)
ranking = rank(mapped, classes, objective="facility_location", mesh=mesh, resume=str(folder / f"partial-{place}"))
found["rank"] = ranking.position, ranking.gain

print(json.dumps({name: [part.tolist() for part in result] for name, result in found.items()}))
"""


def in_two_processes(inputs, folder):
    """Returns the results of both processes; fails, with the output of both, if one of them fails."""
    np.savez(folder / "inputs.npz", **inputs)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    logs = [folder / f"process-{place}.log" for place in range(2)]
    processes = []
    for place, log in enumerate(logs):
        command = [sys.executable, "-c", PROCESS, address, str(place), str(folder / "inputs.npz")]
        with log.open("w") as file:
            processes.append(subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment))
    until = time.monotonic() + 300
    try:
        # If one has failed, the other waits for it forever.
        while {process.poll() for process in processes} in ({None}, {None, 0}) and time.monotonic() < until:
            time.sleep(0.1)
    finally:
        for process in processes:
            process.kill()
    ends = [process.wait() for process in processes]
    printed = [log.read_text() for log in logs]
    assert ends == [0, 0], "\n".join(f"process {k}, {ends[k]}:\n{printed[k][-4000:]}" for k in range(2))
    return [json.loads(lines.splitlines()[-1]) for lines in printed]


def test_two_processes_give_the_picks_of_one(tmp_path):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(N, D)) + 2 * rng.normal(size=(20, D))[rng.integers(20, size=N)]
    z = (z / np.linalg.norm(z, axis=1, keepdims=True)).astype(np.float32)
    similarity = np.clip(z @ z.T, 0, 1)
    options = {
        "where": rng.random(N) < 0.7,
        "initial": np.array([3000, 5]),
        "weights": rng.random(N).astype(np.float32),
    }
    found = in_two_processes({"embeddings": z, "similarity": similarity, "budget": BUDGET} | options, tmp_path)
    alone = {
        "facility_location": greedy.facility_location(embeddings=z, budget=BUDGET, **options),
        "sas": greedy.sas(similarity, budget=BUDGET),
    }
    for name, (picks, gains) in alone.items():
        assert len(set(picks.tolist()) - {-1}) == BUDGET
        for each in found:
            assert each[name] == [picks.tolist(), gains.tolist()]
    np.testing.assert_array_equal(np.load(tmp_path / "z.npy"), z[:1001])
    clusters = kmeans(jax.random.key(2), z[:1001], num_classes=7, restarts=2)
    classes = np.minimum(np.arange(1001) % 10, 3)
    ranking = rank(z[:1001], classes, objective="facility_location")
    for each in found:
        assert each["kmeans"][0] == clusters.labels.tolist()
        np.testing.assert_allclose(each["kmeans"][1], clusters.centres, atol=1e-5)
        assert each["rank"][0] == ranking.position.tolist()
        np.testing.assert_array_equal(each["rank"][1], ranking.gain.astype(np.float64))

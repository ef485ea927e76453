"""The stages around training, to be compiled without having the chips: embedding, latent classes, selection.

`benchmarks.topology` and `benchmarks.topology_gpu` compile them beside the training steps, as the pipeline calls them
on one host of a slice: each host embeds and ranks its part on its own chips. k-means is compiled for one chip.
"""

import dataclasses
import functools
import importlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, SingleDeviceSharding
from ml_collections import ConfigDict

from sas_jax import devices, embedding, networks
from sas_jax.latent_classes.kmeans import solve
from sas_jax.selection import classwise, greedy
from sas_jax.selection.objectives import OBJECTIVES


@dataclasses.dataclass(frozen=True)
class Stage:
    """A stage of a run and its inputs.

    Attributes:
        name: Key in the json.
        config: The run's config, configs/`config`.py.
        label: What is computed, in words.
        images: Number of training images of the run.
        counted: Whether the compiler can count its work, which it cannot for loops whose length depends on the data.
        lower: Lowers the program, from the config and a host's chips, without compiling it.
        batch: For embedding, the images per chip.
        objective: For selection, its objective.
        size: For selection, the padded size of a latent class.
    """

    name: str
    config: str
    label: str
    images: int
    counted: bool
    lower: Callable[["Stage", ConfigDict, tuple[jax.Device, ...]], Any]
    batch: int = 0
    objective: str = ""
    size: int = 0

    def get_config(self) -> ConfigDict:
        """Returns the run's config, with the compute dtype of accelerators."""
        config = importlib.import_module(f"configs.{self.config}").get_config()
        config.compute_dtype = "bfloat16"
        return config


def host(mesh: Mesh) -> tuple[jax.Device, ...]:
    """Returns the chips of a mesh that belong to its first host."""
    return tuple(device for device in mesh.devices.flat if device.process_index == 0)


def _embed(stage: Stage, config: ConfigDict, chips: tuple[jax.Device, ...]) -> Any:
    """Lowers one call of the pmapped function: a batch per chip, with all its views."""
    trainer = networks.make_trainer(config, config.proxy.encoder, config.proxy.train, mesh=Mesh(chips, (devices.AXIS,)))
    state = trainer.abstract_state
    variables = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype),
        {"params": state.params, "batch_stats": state.batch_stats},
    )
    apply = functools.partial(networks.project, trainer.method)
    views = networks.make_views(config)
    function = embedding.compiled(apply, views, config.embedding.views, False, chips)
    batch = (len(chips), config.embedding.batch_size)
    pixels = (config.data.image_size, config.data.image_size, 3)
    images, examples = jax.ShapeDtypeStruct((*batch, *pixels), jnp.uint8), jax.ShapeDtypeStruct(batch, jnp.int32)
    return function.lower(variables, images, examples, _key())


def _classes(stage: Stage, config: ConfigDict, chips: tuple[jax.Device, ...]) -> Any:
    """Lowers one restart of k-means on one chip."""
    one = SingleDeviceSharding(chips[0])

    def array(shape: tuple[int, ...], dtype: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=one)

    features = config.proxy.encoder.head_features
    return solve.lower(
        array((), _key().dtype),
        array((stage.images, features), jnp.float32),
        num_classes=config.latent_classes.num_classes,
        iterations=array((), jnp.int32),
    )


def _rank(stage: Stage, config: ConfigDict, chips: tuple[jax.Device, ...]) -> Any:
    """Lowers one call that ranks classes of one padded size, in parallel on a host's chips."""
    mesh = Mesh(np.array(chips), (devices.AXIS,))
    split = NamedSharding(mesh, PartitionSpec(devices.AXIS))
    places = classwise.places_on_a_device(config.latent_classes.num_classes, stage.size, len(chips))

    def array(dtype: Any, *shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((places * len(chips), *shape), dtype, sharding=split)

    return classwise.rank_many.lower(
        array(jnp.float32, stage.size, config.proxy.encoder.head_features),
        array(jnp.bool_, stage.size),
        None,
        array(jnp.int32, 0),
        array(jnp.int32),
        objective=stage.objective,
        self_similarity=config.selection.self_similarity,
        mesh=mesh,
    )


def _key() -> jax.ShapeDtypeStruct:
    return jax.eval_shape(lambda: jax.random.key(0))


def _rank_whole(stage: Stage, config: ConfigDict, chips: tuple[jax.Device, ...]) -> Any:
    """Lowers greedy steps over all images as one class, with embeddings sharded over a host's chips."""
    mesh = Mesh(np.array(chips), (devices.AXIS,), axis_types=(AxisType.Auto,))
    split = NamedSharding(mesh, PartitionSpec(devices.AXIS))
    whole = NamedSharding(mesh, PartitionSpec())

    def placed(values: Any, shardings: Any) -> Any:
        return jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), values, shardings
        )

    given = jax.ShapeDtypeStruct((stage.size, config.proxy.encoder.head_features), jnp.float32, sharding=split)
    problem = jax.eval_shape(lambda x: greedy.problem(embeddings=x, objective=stage.objective, mesh=mesh), given)
    similarity = dataclasses.replace(problem.similarity, values=given)
    problem = dataclasses.replace(problem, similarity=similarity, scale=placed(problem.scale, whole))
    start = greedy.start.lower(problem, budget=stage.size // 5).compile()
    state = jax.eval_shape(lambda problem: greedy.start(problem, budget=stage.size // 5), problem)
    steps = jax.ShapeDtypeStruct((), jnp.int32, sharding=whole)
    return greedy.advance.lower(problem, placed(state, start.output_shardings), steps)


def _of_run(
    config: str, images: int, *sizes: int, objectives: tuple[str, ...] = ("sas", "facility_location")
) -> tuple[Stage, ...]:
    """Returns the stages of a run on `images` images, with latent classes of these padded sizes."""
    found = importlib.import_module(f"configs.{config}").get_config()
    views, batch, pixels = found.embedding.views, found.embedding.batch_size, found.data.image_size
    proxy, k = f"ResNet-{found.proxy.encoder.depth}", found.latent_classes.num_classes
    embed = f"embed: {proxy}, {pixels} pixels, {batch} images a chip, {views} views of each"
    stages = [
        Stage(f"embed-{config}", config, embed, images, True, _embed, batch=batch),
        Stage(f"classes-{config}", config, f"classes: k-means of {images:,} into {k:,}, on one chip", images, False,
              _classes),
    ]  # fmt: skip
    for objective in objectives:
        for size in sizes:
            label = f"rank: {objective}, latent classes of up to {size:,}"
            name = f"rank-{objective}-{config}-{size}"
            stages.append(Stage(name, config, label, images, False, _rank, objective=objective, size=size))
    return tuple(stages)


STAGES = (
    *_of_run("cifar100", 50_000, 512, 1_536),
    *_of_run("imagenet", 1_281_167, 8_192),
)


def of_gpu() -> tuple[Stage, ...]:
    """Returns the stages for GPUs: the same with every objective, and all images of each run as one class."""
    objectives = tuple(OBJECTIVES)
    whole = [
        Stage(
            f"rank-{objective}-{config}-whole",
            config,
            f"rank: {objective}, {images:,} images as one class",
            images,
            False,
            _rank_whole,
            objective=objective,
            size=images,
        )
        for config, images in (("cifar100", 50_000), ("imagenet", 1_281_168))
        for objective in objectives
    ]
    return (
        *_of_run("cifar100", 50_000, 512, 1_536, objectives=objectives),
        *_of_run("imagenet", 1_281_167, 8_192, objectives=objectives),
        *whole,
    )

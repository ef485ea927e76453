"""The step on one device and on eight, and the inputs of its randomness."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sas_jax import devices
from sas_jax.models import ProjectionHead, ResNet
from sas_jax.training import SimCLR, Trainer
from sas_jax.training.batches import epoch_order, pad_subset
from sas_jax.training.feed import Resident
from sas_jax.training.step import ORDER, VIEWS, view_keys
from sas_jax.views import Views, view

SIZE, BATCH, N = 8, 16, 64


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (N, SIZE, SIZE, 3), np.uint8)


def trainer_on(num_devices, tx):
    method = SimCLR(ResNet(depth=10, width=0.125), ProjectionHead(features=16))
    mesh = devices.mesh(num_devices)
    return Trainer(method, tx, views=Views(size=SIZE), batch_size=BATCH, mesh=mesh)


def train(num_devices, images, *, tx, steps):
    """Returns (state, losses) after `steps` steps of epoch 0."""
    trainer = trainer_on(num_devices, tx)
    key = trainer.key(3)
    feed = Resident(trainer, trainer.on_devices(images), np.arange(N), key=key, steps=3 * (N // BATCH))
    state = trainer.init(key)
    for step in range(steps):
        state, seen = feed.run(state, step, 1)
    return jax.device_get(state), np.asarray(seen.losses[:steps])


def test_one_device_equals_eight(images):
    """With SGD, the change of the parameters is the gradient: one comparison of value, gradient and statistics."""
    one, one_losses = train(1, images, tx=optax.sgd(1.0), steps=1)
    eight, eight_losses = train(8, images, tx=optax.sgd(1.0), steps=1)
    np.testing.assert_allclose(one_losses, eight_losses, rtol=1e-5)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(eight), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=2e-5)


def test_the_first_loss_is_that_of_the_views_by_hand(images):
    """The step's loss, from views, order and batch that are assembled outside of it."""
    trainer = trainer_on(1, optax.sgd(1.0))
    key = jax.random.key(3)
    order = epoch_order(jax.random.fold_in(key, ORDER), 0, jnp.asarray(pad_subset(np.arange(N), N)))
    examples = np.asarray(order[:BATCH])
    keys = view_keys(jax.random.fold_in(key, VIEWS), jnp.int32(0), jnp.asarray(examples))
    one = jax.jit(lambda key, image: view(key, image, trainer.views))
    pairs = jnp.stack([jnp.stack([one(keys[i, v], images[e]) for v in range(2)]) for i, e in enumerate(examples)])
    state = trainer.init(key)
    apply = jax.jit(lambda v, x: trainer.method.apply(v, x, method="loss", mutable=["batch_stats"]))
    loss, _ = apply({"params": state.params, "batch_stats": state.batch_stats}, pairs)
    _, losses = train(1, images, tx=optax.sgd(1.0), steps=1)
    np.testing.assert_allclose(losses[0], loss, rtol=1e-4)


def test_view_keys_do_not_depend_on_the_batch():
    key = jax.random.key(0)
    keys = view_keys(key, jnp.int32(2), jnp.arange(10))
    again = view_keys(key, jnp.int32(2), jnp.array([7, 3]))
    np.testing.assert_array_equal(jax.random.key_data(again[0]), jax.random.key_data(keys[7]))
    data = np.concatenate(
        [jax.random.key_data(keys), jax.random.key_data(view_keys(key, jnp.int32(3), jnp.arange(10)))]
    )
    assert len(np.unique(data.reshape(40, -1), axis=0)) == 40  # each example, view and epoch has its own


def test_epoch_order_is_a_permutation_of_the_subset():
    subset = np.array([3, 4, 9, 10, 17])
    padded = jnp.asarray(pad_subset(subset, 20))
    key = jax.random.key(0)
    orders = [np.asarray(epoch_order(key, e, padded)) for e in range(20)]
    for order in orders:
        assert sorted(order[:5]) == subset.tolist()
        assert (order[5:] == 20).all()
    assert len({tuple(order[:5]) for order in orders}) > 10
    np.testing.assert_array_equal(orders[4], epoch_order(key, 4, padded))

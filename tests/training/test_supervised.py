"""Training with labels: the loss, which labels it uses, and that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sas_jax import devices
from sas_jax.models import LinearClassifier, ResNet
from sas_jax.networks import project
from sas_jax.training import Supervised, Trainer
from sas_jax.training.feed import Resident
from sas_jax.views import Views, plain

SIZE, BATCH, CLASSES = 8, 32, 3
METHOD = Supervised(encoder=ResNet(depth=10, width=0.125, stem="3x3"), classifier=LinearClassifier(num_classes=CLASSES))
VIEWS = Views(size=SIZE, crop_scale=(0.5, 1.0), jitter=0.0, grey=0.0)


@pytest.fixture(scope="module")
def images():
    """Returns noise, brighter in the channel of the label, in no order."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, 160).astype(np.int32)
    pixels = rng.integers(0, 120, (160, SIZE, SIZE, 3))
    pixels[np.arange(160), :, :, labels] += 100
    return pixels.astype(np.uint8), labels


def test_the_loss_is_the_mean_cross_entropy_of_both_views():
    rng = np.random.default_rng(1)
    pairs = jnp.asarray(rng.normal(size=(4, 2, SIZE, SIZE, 3)), jnp.float32)
    labels = np.array([0, 2, 1, 0], np.int32)

    @jax.jit
    def both(pairs):
        variables = METHOD.init(jax.random.key(0), pairs[:, 0], train=False)
        loss, _ = METHOD.apply(variables, pairs, labels, method="loss", mutable=["batch_stats"])
        flat = pairs.reshape(8, SIZE, SIZE, 3)
        return loss, METHOD.apply(variables, flat, train=True, mutable=["batch_stats"])[0]

    loss, logits = both(pairs)
    logits = np.asarray(logits, np.float64)
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares = shifted / shifted.sum(axis=1, keepdims=True)
    expected = -np.mean([np.log(shares[i, labels[i // 2]]) for i in range(8)])
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_it_learns_the_labels_of_the_images_it_sees(images):
    pixels, labels = images
    trainer = Trainer(
        METHOD, optax.adam(3e-3), views=VIEWS, batch_size=BATCH, mesh=devices.mesh(), labels=labels, chunk_steps=4
    )
    # Some images in an order of their own: with the labels of others, or in another order, it would learn nothing.
    subset = np.sort(np.random.default_rng(2).permutation(160)[:96])
    key = trainer.key(0)
    feed = Resident(trainer, trainer.on_devices(pixels), subset, key=key, steps=12 * (96 // BATCH))
    state = trainer.init(key)
    for step in range(12 * (96 // BATCH)):
        state, _ = feed.run(state, step, 1)
    others = np.setdiff1d(np.arange(160), subset)
    seen = jax.vmap(lambda image: plain(image, views=VIEWS))(pixels[others])
    variables = jax.device_get({"params": state.params, "batch_stats": state.batch_stats})
    logits = jax.jit(lambda v, x: project(METHOD, v, x))(variables, seen)
    assert np.mean(np.argmax(logits, axis=1) == labels[others]) > 0.9

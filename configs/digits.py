"""scikit-learn's 1,797 scanned digits, 8 x 8 pixels: the whole method in minutes on a laptop. `make demo` runs it.

python -m sas_jax.main --config=configs/digits.py

Expected on two CPU cores: 2 to 3 minutes; linear probe 98 to 99 % after training on 20 % of the images, chosen or
random, or on all of them, and 94 % untrained; kNN 89 to 92 % (20 %), 95 % (all) and 61 % (untrained) (2026-11-28, jax
0.10.2).
"""

from configs import default


def get_config():
    config = default.get_config()
    config.data.name = "digits"
    config.data.image_size = 16
    config.data.mean = (0.305, 0.305, 0.305)
    config.data.std = (0.376, 0.376, 0.376)

    # Flips and small crops can change which digit an image shows.
    config.views.crop_scale = (0.4, 1.0)
    config.views.flip = 0.0
    # Grey images have no hue or saturation.
    config.views.hue = 0.0
    config.views.saturation = 0.0
    config.views.grey = 0.0

    for encoder in (config.proxy.encoder, config.encoder):
        encoder.depth = 10
        encoder.width = 0.25
    for train in (config.proxy.train, config.train):
        train.batch_size = 128
    # Scaled to the network.
    for method in (config.methods.byol, config.methods.simsiam):
        method.head_hidden = method.predictor_hidden = method.head_features = 128
    config.methods.moco.queue_size = 512
    config.proxy.train.epochs = 10
    config.train.epochs = 20
    config.embedding.views = 8
    config.latent_classes.num_classes = 10
    config.runtime.checkpoint_seconds = 20.0
    return config

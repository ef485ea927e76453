"""TinyImageNet: 100,000 images of 64 pixels in 200 classes, from its unpacked archive.

    python -m sas_jax.main --config=configs/tinyimagenet.py --config.data.folder=tiny-imagenet-200

The probe is evaluated on val, because the classes of the archive's test images were never published. The settings are
those of the authors' code for Joshi & Mirzasoleiman 2023 (arXiv 2302.09195), with twice the learning rate of the other
data sets. That code has two stems for these images. This config uses the one with a pool; the other, at four times the
computation, is --config.proxy.encoder.stem=3x3 --config.encoder.stem=3x3.

This size needs an accelerator. This config was never run in full, only on 4,000 images at a fraction of the width.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.data.name = "tinyimagenet"
    config.data.test_split = "val"
    config.data.image_size = 64
    config.data.mean = (0.4802, 0.4481, 0.3975)
    config.data.std = (0.2770, 0.2691, 0.2821)
    for encoder in (config.proxy.encoder, config.encoder):
        encoder.stem = "3x3_pool"
    for train in (config.proxy.train, config.train):
        train.learning_rate = 2e-3
    config.latent_classes.num_classes = 200
    return config

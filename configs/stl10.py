"""STL10: 5,000 labelled and 100,000 unlabelled images of 96 pixels; the probe sees the labelled ones.

    python -m sas_jax.main --config=configs/stl10.py

Pre-training is on train+unlabelled in the published order, that of torchvision's split "train+unlabeled". A linear
probe on train's labels is measured on test: images without a label play no part in it. Settings as in the authors' code
for Joshi & Mirzasoleiman 2023 (arXiv 2302.09195), whose pool behind the 3x3 stem, however, has a stride of 3 and not 2.

tfds prepares it only where TensorFlow is installed: `tfds build stl10 --file_format=array_record`, once. At this size
it wants an accelerator. It was never run in full: the tests take small images in the same form through it.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.data.name = "stl10"
    config.data.train_split = "train+unlabelled"
    config.data.image_size = 96
    # Of train+unlabelled.
    config.data.mean = (0.4408, 0.4279, 0.3867)
    config.data.std = (0.2682, 0.2610, 0.2686)
    for encoder in (config.proxy.encoder, config.encoder):
        encoder.stem = "3x3_pool"
    config.latent_classes.num_classes = 10
    return config

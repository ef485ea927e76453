"""STL10: 5,000 labelled and 100,000 unlabelled images of 96 pixels; the probe uses the labelled ones.

    python -m sas_jax.main --config=configs/stl10.py

Pre-training uses train+unlabelled in the published order, that of torchvision's split "train+unlabeled". The linear
probe is trained on train and evaluated on test; it does not use unlabelled images. The settings are those of the
authors' code for Joshi & Mirzasoleiman 2023 (arXiv 2302.09195), except that the pool after its 3x3 stem has a stride of
3 instead of 2.

tfds needs TensorFlow to prepare the data: `tfds build stl10 --file_format=array_record`, once. This size needs an
accelerator. This config was never run in full; tests run it on small images in the same format.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.data.name = "stl10"
    config.data.train_split = "train+unlabelled"
    config.data.image_size = 96
    # Mean and std of train+unlabelled.
    config.data.mean = (0.4408, 0.4279, 0.3867)
    config.data.std = (0.2682, 0.2610, 0.2686)
    for encoder in (config.proxy.encoder, config.encoder):
        encoder.stem = "3x3_pool"
    config.latent_classes.num_classes = 10
    return config

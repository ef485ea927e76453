"""A folder of your own images, with or without labels.

    python -m sas_jax.main --config=configs/image_folder.py --config.data.folder=PATH

Labels are not needed: sub-folders, where there are any, serve only to measure the encoders, and only with
--config.data.test_folder=PATH, images with the same sub-folders that were not trained on. --stop_after=subset ends with
the ranking and the subset, before anything but the proxy is trained.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.data.name = "folder"
    # The images' shorter side becomes 64 pixels; a pool after the first layer keeps the cost near that of 32.
    config.data.image_size = 64
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)
    for encoder in (config.proxy.encoder, config.encoder):
        encoder.stem = "3x3_pool"
    for train in (config.proxy.train, config.train):
        train.batch_size = 256
    config.latent_classes.num_classes = 20
    return config

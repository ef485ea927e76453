"""A folder of your own images, with or without labels.

    python -m sas_jax.main --config=configs/image_folder.py --config.data.folder=PATH

Labels are not needed. If there are class sub-folders, they are used only to evaluate the encoders, and only with
--config.data.test_folder=PATH, a folder of other images with the same sub-folders. --stop_after=subset stops after the
ranking and the subset, when only the proxy has been trained.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.data.name = "folder"
    # The shorter side is resized to 64 pixels; pooling after the first layer keeps the cost near that of 32 pixels.
    config.data.image_size = 64
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)
    for encoder in (config.proxy.encoder, config.encoder):
        encoder.stem = "3x3_pool"
    for train in (config.proxy.train, config.train):
        train.batch_size = 256
    config.latent_classes.num_classes = 20
    return config

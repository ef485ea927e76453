"""ImageNet (ILSVRC 2012): 1.28 million images at 224 pixels, streamed; a ResNet-50 by SimCLR's recipe.

    python -m sas_jax.main --config=configs/imagenet.py
    python -m sas_jax.main --config=configs/imagenet.py --config.data.name=folder \\
        --config.data.folder=train --config.data.test_folder=val

The first reads tfds's imagenet2012 (`tfds build imagenet2012 --file_format=array_record`, from the archives one has
registered for); the second folders with a sub-folder for each class. Settings of Chen et al. 2020 (arXiv 2002.05709)
for 100 epochs at a batch of 4,096: LARS, jitter of strength 1, blur. Two things differ from theirs: a crop is taken
from the square of 224 pixels that an image is brought to first, and there is a proxy, a ResNet-18, for 30 epochs.

It wants sixteen TPU v5e or v6e chips, or as many large GPUs: at this batch a step takes 9 GB a chip with
config.train.remat, as compiled (docs/scaling.md), and the hosts have to decode what the chips take. The probe's
features (1.28 million x 2,048 float32, 10.5 GB) are kept in a host's memory. With fewer chips, a smaller batch,
--config.train.batch_size=1024 and the same for config.proxy.train; where that is below 1,024, Adam in place of LARS:
--config.train.optimizer=adam --config.train.learning_rate=1e-3 --config.train.rate_scaling=none.

Never run: no such machine was there. The tests take small images in both forms through it, cut down to a few channels.
"""

from configs import default


def get_config():
    config = default.get_config()
    config.data.name = "imagenet2012"
    config.data.test_split = "validation"
    config.data.image_size = 224
    config.data.placement = "stream"
    config.data.mean = (0.485, 0.456, 0.406)
    config.data.std = (0.229, 0.224, 0.225)

    config.views.blur = 0.5
    config.views.brightness = 0.8
    config.views.contrast = 0.8
    config.views.saturation = 0.8
    config.views.hue = 0.2

    config.proxy.encoder.depth = 18
    config.encoder.depth = 50
    for encoder in (config.proxy.encoder, config.encoder):
        encoder.stem = "7x7_pool"
    for train in (config.proxy.train, config.train):
        train.epochs = 100
        train.batch_size = 4096
        train.temperature = 0.1
        train.optimizer = "lars"
        train.learning_rate = 0.3
        train.rate_scaling = "linear"
        train.schedule = "cosine"
        train.warmup_epochs = 10.0
    config.proxy.train.epochs = 30
    config.train.remat = True

    config.embedding.batch_size = 16
    config.latent_classes.num_classes = 1000
    config.evaluation.batch_size = 128
    config.runtime.checkpoint_epochs = 1
    config.runtime.checkpoint_seconds = 600.0
    return config

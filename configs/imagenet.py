"""ImageNet (ILSVRC 2012): 1.28 million streamed images at 224 pixels; a ResNet-50 with SimCLR's settings.

    python -m sas_jax.main --config=configs/imagenet.py
    python -m sas_jax.main --config=configs/imagenet.py --config.data.name=folder \\
        --config.data.folder=train --config.data.test_folder=val

The first command reads tfds's imagenet2012 (`tfds build imagenet2012 --file_format=array_record`, from archives that
require registration). The second reads folders with a sub-folder per class. The settings are those of Chen et al. 2020
(arXiv 2002.05709) for 100 epochs and batch size 4,096: LARS, jitter of strength 1, blur. There are two differences:
crops are taken from images already resized and cropped to 224 x 224 pixels, and a proxy, a ResNet-18, is trained for
30 epochs.

It needs sixteen TPU v5e or v6e chips, or as many large GPUs. At this batch size a step takes 9 GB per chip with
config.train.remat, as compiled (docs/scaling.md), and the hosts must decode images as fast as the chips use them. The
probe's features (1.28 million x 2,048 float32, 10.5 GB) are kept in a host's memory. With fewer chips, reduce the batch
size: --config.train.batch_size=1024 and the same for config.proxy.train. Below 1,024, use Adam instead of LARS:
--config.train.optimizer=adam --config.train.learning_rate=1e-3 --config.train.rate_scaling=none.

This config was never run in full, for lack of such a machine. Tests run it on small images of both formats with few
channels.
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

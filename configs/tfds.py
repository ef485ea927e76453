"""Any image data set in tfds, with or without labels.

    python -m sas_jax.main --config=configs/tfds.py --config.data.name=imagenette/160px-v2 \\
        --config.data.test_split=validation --workdir=runs/imagenette

`tfds build NAME --file_format=array_record` prepares it and needs TensorFlow. Each example must have one image; labels
are read from the feature `label`. --config.data.test_split= (empty) skips the evaluation. Images are resized to 64
pixels; for images of about 32 pixels use --config.data.image_size=32 and the stem 3x3, as in configs/cifar100.py.
"""

from configs import image_folder


def get_config():
    config = image_folder.get_config()
    config.data.name = ""
    return config

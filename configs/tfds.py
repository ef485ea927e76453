"""Any image data set that tfds knows, by its name, with or without labels.

    python -m sas_jax.main --config=configs/tfds.py --config.data.name=imagenette/160px-v2 \\
        --config.data.test_split=validation --workdir=runs/imagenette

`tfds build NAME --file_format=array_record` prepares it, where TensorFlow is installed. Its examples have to hold one
image each; labels are read from a feature of the name `label`. --config.data.test_split= (empty) ends without a
measurement. Images are brought to 64 pixels: for those of about 32, --config.data.image_size=32, and the stem 3x3 as in
configs/cifar100.py.
"""

from configs import image_folder


def get_config():
    config = image_folder.get_config()
    config.data.name = ""
    return config

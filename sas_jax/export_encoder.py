"""Exports the weights of an encoder from a finished run."""

from sas_jax import weights
from sas_jax.encoder import load_encoder


def export_encoder(workdir: str, output: str, *, arm: str | None = None, allow_older: bool = False) -> str:
    """Writes the weights of an arm's encoder, by torchvision's names.

    Args:
        workdir: the directory of a finished run.
        output: path of the .safetensors.
        arm, allow_older: see `load_encoder`.

    Returns:
        A message for the user.

    Raises:
        InputError: an argument cannot be used; the message says which, and what to do.
    """
    weights.check_writable(output)
    encoder = load_encoder(workdir, arm=arm, allow_older=allow_older)
    encoder.save(output)
    network, views = encoder.network, encoder.views
    return (
        f"{output}: ResNet-{network.depth} of {encoder.arm} with torchvision's parameter names; width "
        f"{network.width:g}, stem {network.stem}, image size {views.size}, normalisation (x - {views.mean}) / "
        f"{views.std}"
    )

"""CIFAR-100's twenty superclasses."""

from collections.abc import Sequence

import numpy as np

# Krizhevsky, "Learning multiple layers of features from tiny images" (2009), and https://www.cs.toronto.edu/~kriz/cifar.html;
# spelled and ordered as in the archive's own fine_label_names.txt and coarse_label_names.txt. By name, not by number,
# so that data sets with a different numbering are grouped correctly.
CIFAR100 = {
    "aquatic_mammals": ("beaver", "dolphin", "otter", "seal", "whale"),
    "fish": ("aquarium_fish", "flatfish", "ray", "shark", "trout"),
    "flowers": ("orchid", "poppy", "rose", "sunflower", "tulip"),
    "food_containers": ("bottle", "bowl", "can", "cup", "plate"),
    "fruit_and_vegetables": ("apple", "mushroom", "orange", "pear", "sweet_pepper"),
    "household_electrical_devices": ("clock", "keyboard", "lamp", "telephone", "television"),
    "household_furniture": ("bed", "chair", "couch", "table", "wardrobe"),
    "insects": ("bee", "beetle", "butterfly", "caterpillar", "cockroach"),
    "large_carnivores": ("bear", "leopard", "lion", "tiger", "wolf"),
    "large_man-made_outdoor_things": ("bridge", "castle", "house", "road", "skyscraper"),
    "large_natural_outdoor_scenes": ("cloud", "forest", "mountain", "plain", "sea"),
    "large_omnivores_and_herbivores": ("camel", "cattle", "chimpanzee", "elephant", "kangaroo"),
    "medium_mammals": ("fox", "porcupine", "possum", "raccoon", "skunk"),
    "non-insect_invertebrates": ("crab", "lobster", "snail", "spider", "worm"),
    "people": ("baby", "boy", "girl", "man", "woman"),
    "reptiles": ("crocodile", "dinosaur", "lizard", "snake", "turtle"),
    "small_mammals": ("hamster", "mouse", "rabbit", "shrew", "squirrel"),
    "trees": ("maple_tree", "oak_tree", "palm_tree", "pine_tree", "willow_tree"),
    "vehicles_1": ("bicycle", "bus", "motorcycle", "pickup_truck", "train"),
    "vehicles_2": ("lawn_mower", "rocket", "streetcar", "tank", "tractor"),
}


def coarse_classes(class_names: Sequence[str] | None) -> np.ndarray | None:
    """Returns the coarse label of each fine one, int32 [c], if the classes are CIFAR-100's; else None.

    Args:
        class_names: the name of each fine label, in order; None if there are no labels.
    """
    coarse = {fine: number for number, members in enumerate(CIFAR100.values()) for fine in members}
    if class_names is None or sorted(class_names) != sorted(coarse):
        return None
    return np.array([coarse[name] for name in class_names], np.int32)

"""Every field of a run, with its unit, range and reason. The other configs override a few of them.

Set a field on the command line with --config.section.field=value.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The defaults. Unless stated otherwise they are the settings of the authors' code for 32-pixel images."""
    config = ConfigDict()

    # Integer >= 0. Seeds everything random: initial parameters, order, views, k-means, random subsets. An arm adds its
    # own seed to it.
    config.seed = 0

    config.data = data = ConfigDict()
    # "digits", "folder", "parquet" (Hugging Face), "webdataset", "torchvision" (its archives of CIFAR and STL10),
    # "tinyimagenet", or the name of any tfds image data set ("cifar10", "cifar100", ...).
    data.name = "digits"
    # Directory of prepared tfds data sets; "" is tfds's default (~/tensorflow_datasets, or $TFDS_DATA_DIR).
    data.dir = ""
    # Names of the splits, of tfds or as in the file names; join several with "+". An empty test_split means no
    # evaluation.
    data.train_split = "train"
    data.test_split = "test"
    # "tinyimagenet" and "torchvision": the unpacked archive. "folder": the images, with or without one sub-folder per
    # class. "parquet" and "webdataset": the files or their folder. The last three also take labelled test images in
    # test_folder ("": none).
    data.folder = ""
    data.test_folder = ""
    # Names of the classes to keep, in the order of their new labels; () keeps all images, labelled or not.
    data.classes = ()
    # Pixels, > 0. Every image is resized (shorter side) and centre-cropped to this size before training.
    data.image_size = 32
    # Where the images are during training: "device" (uint8 on every device), "host" (in memory, sent in batches),
    # "stream" (decoded from their files when needed), or "auto": the first of these that fits.
    data.placement = "auto"
    # Per-channel mean and std (RGB in [0, 1]), applied after augmentation.
    data.mean = (0.5, 0.5, 0.5)
    data.std = (0.25, 0.25, 0.25)

    config.views = views = ConfigDict()
    # Random resized crop: range of the area kept (as a fraction), and of width / height.
    views.crop_scale = (0.08, 1.0)
    views.crop_ratio = (3.0 / 4.0, 4.0 / 3.0)
    # Probabilities in [0, 1].
    views.flip = 0.5
    views.jitter = 0.8
    views.grey = 0.2
    views.blur = 0.0
    # Strengths of the colour jitter, >= 0 (hue <= 0.5).
    views.brightness = 0.4
    views.contrast = 0.4
    views.saturation = 0.4
    views.hue = 0.1

    # The proxy: a small network, trained on all images first, that only measures similarity.
    config.proxy = proxy = ConfigDict()
    # Embeddings that replace the proxy, which is then not trained: "timm/NAME", "hf/NAME" or "onnx/FILE" (those of a
    # pretrained network, of unaugmented images; extra [pretrained]), or a .npy file, float [n, d] in the data set's
    # order ([n, m, d] for similarities that compare all views). Rows are normalised unless all norms are at most 1 (as
    # in a run's own embeddings.npy).
    proxy.embeddings = ""
    proxy.encoder = _encoder(depth=10)
    proxy.train = _train()

    config.embedding = embedding = ConfigDict()
    # Views per example, >= 1. The embedding is the mean of their unit vectors; 1 reproduces the authors' code. More
    # views make the subset more reproducible: two draws of 1, 4 and 16 views shared 43, 55 and 70 % of the 20 % that
    # sas picks within the labels of 20 CIFAR-100 classes (docs/selection.md). 16 views cost as much as three epochs of
    # the proxy.
    embedding.views = 16
    # Images per device and batch (each with all its views).
    embedding.batch_size = 64

    config.latent_classes = latent_classes = ConfigDict()
    # "kmeans" of embeddings (no labels needed), "few_labels" (spreads a few labels to the rest), "clip_zeroshot" (needs
    # class names and the extra [clip]), "file" (a .npy of ints [n]), or "labels" (for analysis only: the selection has
    # then seen the labels). docs/latent_classes.md says when to use which. It matters: k-means of a pretrained
    # network's embeddings comes close to the labels, k-means of the proxy's does not.
    latent_classes.method = "kmeans"
    # Embeddings for kmeans and few_labels: "" (the proxy's), "clip" (those of clip_model below), "timm/NAME", "hf/NAME"
    # or "onnx/FILE" (those of a pretrained network; extra [pretrained], docs/latent_classes.md), or a .npy file, float
    # [n, d] in the data set's order.
    latent_classes.embeddings = ""
    # For kmeans: the number of classes (0 chooses it automatically) and of restarts (the best is kept).
    latent_classes.num_classes = 10
    latent_classes.restarts = 5
    # For few_labels: the fraction of each class's labels to use, in (0, 1]; or a .csv with the columns id,label.
    latent_classes.labelled_fraction = 0.01
    latent_classes.labels_file = ""
    # The CLIP model: a folder saved by transformers, or a name on the Hugging Face hub. The batch size also applies to
    # other pretrained networks.
    latent_classes.clip_model = "openai/clip-vit-base-patch32"
    latent_classes.clip_batch_size = 64
    # For clip_zeroshot: the class names, () for the data set's; and prompts with {} for the name, () for CLIP's 18
    # prompts for CIFAR.
    latent_classes.class_names = ()
    latent_classes.prompts = ()
    # For file: the .npy.
    latent_classes.file = ""

    config.selection = selection = ConfigDict()
    # "sas" (Algorithm 1 of the paper), "facility_location" or "similarity_sum" (what the authors' code computes). No
    # measurable difference between the three after contrastive training has been found yet (docs/results.md).
    selection.objective = "sas"
    # "cosine" (max(0, mean over pairs of views); one vector per example), or "clipped_cosine" (mean of max(0, .)) and
    # "gaussian" (mean of exp(-distance^2 / tau)), which compare all pairs of views.
    selection.similarity = "cosine"
    selection.tau = 0.5
    # Similarity of an example to itself, 1 or 0. With 0 it must be represented by another example.
    selection.self_similarity = 1.0
    # How a budget is divided among the latent classes: "proportional" to their sizes, or "balanced" (the same number
    # from each class, as far as it has that many).
    selection.budgets = "proportional"
    # A .npy file, float [n, d] in the data set's order, to measure the similarity instead of the proxy's embeddings.
    selection.similarity_embeddings = ""
    # A subset made elsewhere, for the arm ("file", 1.0, seed): a .npy, .npz, .csv, .parquet, .txt or .pkl of indices,
    # ids or paths.
    selection.file = ""
    # What its entries are: "positions" (in the data set as read here), "original" (indices of the published data set,
    # as in torchvision; of file_split, or of several joined, "train+unlabelled"), "ids", or "auto" if only one is
    # possible.
    selection.file_order = "auto"
    selection.file_split = ""
    # Skip and count entries that are duplicates or name no image here, instead of refusing the list.
    selection.file_drop = False

    # Further partitions, to compare in one run: the arm ("sas@NAME", 0.2, 0) ranks within config.partitions.NAME. A
    # partition holds the fields of config.latent_classes that differ, and `budgets` and `similarity_embeddings` of
    # config.selection, for example {"method": "labels"}.
    config.partitions = ConfigDict()

    # The encoder trained on each subset.
    config.encoder = _encoder(depth=18)
    config.train = _train()

    # The method of arms that name none: "simclr" (with config.train), or one of `methods`.
    config.method = "simclr"
    config.methods = methods = ConfigDict()
    methods.byol = _byol()
    methods.simsiam = _simsiam()
    methods.moco = _moco()

    # The training runs to compare: (selector, fraction in (0, 1], seed), optionally followed by a method and a step
    # rule. Selectors: "selected" (the objective above), "sas", "facility_location", "similarity_sum",
    # "facility_location_self0" (self_similarity 0), "random", "random_balanced" (random within the latent classes),
    # "prototypes_easy" and "prototypes_hard" (nearest to and farthest from their class mean; Sorscher et al. 2022),
    # "k_center" (farthest first), "semdedup" (fewest near duplicates; Abbas et al. 2023), "file" (all of
    # selection.file, fraction 1), "full" (all images, fraction 1). "SELECTOR@NAME" uses config.partitions.NAME. Step
    # rules: "epochs" (train.epochs over the subset, as in the paper) or "steps" (as many steps as train.epochs over all
    # images).
    config.arms = (("selected", 0.2, 0), ("random", 0.2, 0), ("full", 1.0, 0))

    config.evaluation = evaluation = ConfigDict()
    # Linear probe: L2 penalty on the weights (added to the mean cross-entropy), and maximum L-BFGS iterations.
    evaluation.probe_l2 = 1e-5
    evaluation.probe_iterations = 500
    # Further probes with only these fractions of the labels, each in (0, 1) with at least one label per class, such as
    # (0.01, 0.1).
    evaluation.probe_fractions = ()
    # If given, each probe chooses its L2 from these values on a held-out fifth of its training labels.
    evaluation.probe_l2_grid = ()
    # Measure the paper's geometry (alignment of views, class centres, nearest-centre classifier) on the subset and on
    # all images: two views of every image per encoder.
    evaluation.geometry = True
    # Also train the encoder with labels (cross-entropy, config.train) on each subset of these fractions, to measure
    # what the subset is worth to supervised training.
    evaluation.supervised_fractions = ()
    # Weighted kNN: number of neighbours (at most the training images) and temperature.
    evaluation.knn_neighbours = 200
    evaluation.knn_temperature = 0.1
    # Images per device and batch.
    evaluation.batch_size = 512

    # "auto" is bfloat16 on accelerators and float32 on CPU. Parameters, statistics and loss are always float32.
    config.compute_dtype = "auto"

    # How a run is executed. Nothing here changes its numbers, so these fields may change when a run resumes.
    config.runtime = runtime = ConfigDict()
    # Write a checkpoint after this many epochs, or at the end of the first chunk of steps after this many seconds.
    runtime.checkpoint_epochs = 10
    runtime.checkpoint_seconds = 120.0
    # Number of newest checkpoints to keep per training run, >= 1. The one with the lowest loss is kept as well.
    runtime.keep_checkpoints = 2
    # Processes that decode streamed images, >= 0. 0 uses one thread per core, which is usually enough.
    runtime.data_workers = 0
    # With --distributed: a process that is silent for this many seconds (>= 5) counts as dead and ends the others.
    runtime.heartbeat_seconds = 100.0
    return config


def _encoder(depth: int) -> ConfigDict:
    encoder = ConfigDict()
    # ResNet depth: 10, 18, 34 or 50.
    encoder.depth = depth
    # Multiplies the number of channels, > 0. 0.25 is about ten times faster on a CPU.
    encoder.width = 1.0
    # First layers: "3x3" (about 32 pixels), "3x3_pool" (64 to 96), "7x7_pool" (224).
    encoder.stem = "3x3"
    # A file of the weights that training begins with, "" for random ones: a .safetensors of sas_jax.export, or
    # torchvision's weights of the same depth and stem (.safetensors, .pth). The head is random in any case.
    encoder.init = ""
    # Projection head: hidden width (0: that of the representation) and output features.
    encoder.head_hidden = 0
    encoder.head_features = 128
    return encoder


def _train() -> ConfigDict:
    train = ConfigDict()
    train.epochs = 400
    # Images per step, two views each. The loss compares each view with all others of the batch.
    train.batch_size = 512
    # Temperature of NT-Xent, > 0.
    train.temperature = 0.5
    # "adam" (decay as torch.optim.Adam's: L2 added to the gradient, on all parameters), "adamw" (decay apart from the
    # gradient, on kernels only), "sgd" (momentum 0.9, decay as torch.optim.SGD's) or "lars" (SimCLR's for batches over
    # 1,024: with it learning_rate=0.3, rate_scaling="linear", weight_decay=1e-6, schedule="cosine", warmup_epochs=10).
    train.optimizer = "adam"
    train.learning_rate = 1e-3
    train.weight_decay = 1e-6
    # Scales the learning rate by 1 ("none"), batch_size / 256 ("linear"), or its square root ("sqrt").
    train.rate_scaling = "none"
    # "constant", or "cosine" (decays to 0 by half a cosine). Both start with a linear warm-up of `warmup_epochs` >= 0.
    train.schedule = "constant"
    train.warmup_epochs = 0.0
    # Rematerialise each block in the backward pass: less memory for large images and batches, a third slower.
    train.remat = False
    # Number of steps with a non-finite loss or gradient that a run may skip, >= 0. With 0 the first one ends the run.
    train.skip_nonfinite = 0
    # On a GPU: bit-identical runs and restarts, at some cost in speed. On a CPU, runs are always bit-identical.
    train.deterministic = False
    return train


def _byol() -> ConfigDict:
    """BYOL's fields, in place of those of config.train.

    From lightly's CIFAR-10 benchmark (lightly-ai/lightly, cifar10_benchmark.py: SGD at 0.06 for 128 images); the
    momentum's rise to 1 is from the paper (arXiv 2006.07733).
    """
    byol = _sgd(learning_rate=0.12)
    # Projection head (hidden width, output features) and hidden width of the predictor; 0: that of the representation.
    byol.head_hidden = 1024
    byol.head_features = 256
    byol.predictor_hidden = 1024
    # Momentum of the target network's moving average, in [0, 1], at the start and the end of a run.
    byol.momentum = 0.99
    byol.final_momentum = 1.0
    return byol


def _simsiam() -> ConfigDict:
    """SimSiam's fields, in place of those of config.train: Chen & He 2021 (arXiv 2011.10566), appendix D, CIFAR-10."""
    simsiam = _sgd(learning_rate=0.03)
    simsiam.head_hidden = 2048
    simsiam.head_features = 2048
    simsiam.predictor_hidden = 512
    return simsiam


def _moco() -> ConfigDict:
    """MoCo v2's fields, in place of those of config.train.

    From facebookresearch/moco's CIFAR-10 demo (SGD at 0.06 for 512 images), with the two-layer head of v2.
    """
    moco = _sgd(learning_rate=0.03)
    moco.head_hidden = 0
    moco.head_features = 128
    moco.momentum = 0.99
    moco.final_momentum = 0.99
    # Temperature of the loss, > 0.
    moco.temperature = 0.1
    # Number of keys from earlier batches, a multiple of two batches.
    moco.queue_size = 4096
    # A batch is split into this many BatchNorm groups, keys differently from queries.
    moco.batch_norm_groups = 8
    return moco


def _sgd(learning_rate: float) -> ConfigDict:
    """The fields that the three methods share, with the same meaning as in config.train."""
    train = ConfigDict()
    train.optimizer = "sgd"
    train.learning_rate = learning_rate
    train.rate_scaling = "linear"
    train.weight_decay = 5e-4
    train.schedule = "cosine"
    train.warmup_epochs = 0.0
    return train

"""Every field of a run, with its unit, range and reason. The other configs override a few of them.

A field is changed on the command line with --config.section.field=value.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The defaults: the settings of the authors' code for 32-pixel images where nothing else is said."""
    config = ConfigDict()

    # Integer >= 0. Of all that is random: initial parameters, order, views, k-means, random subsets. An arm adds its
    # own seed.
    config.seed = 0

    config.data = data = ConfigDict()
    # "digits", "folder", "parquet" (Hugging Face), "webdataset", "torchvision" (its archives of CIFAR and STL10),
    # "tinyimagenet", or the name of any tfds image data set ("cifar10", "cifar100", ...).
    data.name = "digits"
    # Where tfds keeps prepared data sets; "" is tfds's own default (~/tensorflow_datasets, or $TFDS_DATA_DIR).
    data.dir = ""
    # Names of the splits, tfds's or those in the names of files; several are joined with "+". "" for test_split: no
    # evaluation.
    data.train_split = "train"
    data.test_split = "test"
    # For "tinyimagenet" and "torchvision" the unpacked archive; for "folder" the images, with or without sub-folders
    # for classes; for "parquet" and "webdataset" the files, or their folder. And for the last three labelled test
    # images ("": none).
    data.folder = ""
    data.test_folder = ""
    # The names of the classes to keep, in the order of their labels then; () for all images, labelled or not.
    data.classes = ()
    # Pixels, > 0: every image is brought to this size (its shorter side, then the centre) before training.
    data.image_size = 32
    # Where the images are while it trains: "device" (as uint8 on every device), "host" (in memory, sent batch by
    # batch), "stream" (in their files, decoded as they are wanted), or "auto": the first of these that they fit.
    data.placement = "auto"
    # Of the red, green and blue channel in [0, 1]: subtracted and divided by after augmentation.
    data.mean = (0.5, 0.5, 0.5)
    data.std = (0.25, 0.25, 0.25)

    config.views = views = ConfigDict()
    # Random resized crop: the part of the area kept, and width / height, as (lowest, highest).
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

    # The proxy: a small network trained first on all images, only to measure similarity.
    config.proxy = proxy = ConfigDict()
    # A .npy file, float [n, d] (or [n, m, d] for the kinds of similarity that need every view), in the data set's
    # order: takes the place of the proxy, which is then not trained. Rows are divided by their norms, unless none is
    # over 1 (a run's own embeddings.npy).
    proxy.embeddings = ""
    proxy.encoder = _encoder(depth=10)
    proxy.train = _train()

    config.embedding = embedding = ConfigDict()
    # Views an example, >= 1: its embedding is the mean of so many unit vectors. 1 reproduces the authors' code. The
    # similarity is an expectation over views, and a subset is only as reproducible as its estimate: of the 20 % that
    # sas picks within the labels of 20 of CIFAR-100's classes two draws of 1, 4 and 16 views shared 43, 55 and 70 %
    # (docs/selection.md). 16 are as much work as three epochs of the proxy, of 400.
    embedding.views = 16
    # Images on one device at a time (times the views).
    embedding.batch_size = 64

    config.latent_classes = latent_classes = ConfigDict()
    # "kmeans" on embeddings needs no labels; "few_labels" spreads a few over the rest; "clip_zeroshot" needs the names
    # of classes and the extra [clip]; "file" reads a .npy of ints [n]; "labels" takes the data set's own labels: for
    # analysis only, a selection made with it has seen the labels. docs/latent_classes.md says when to use which, and
    # docs/results.md how much hangs on it.
    latent_classes.method = "kmeans"
    # Of which embeddings, for kmeans and few_labels: "" the proxy's, "clip" those of the model below, or a .npy file,
    # float [n, d] in the data set's order.
    latent_classes.embeddings = ""
    # For kmeans: how many, 0 to have the number chosen, and how often it starts anew (the best is kept).
    latent_classes.num_classes = 10
    latent_classes.restarts = 5
    # For few_labels: the part of each class's labels that may be seen, in (0, 1]; or a .csv of id,label in its place.
    latent_classes.labelled_fraction = 0.01
    latent_classes.labels_file = ""
    # The CLIP model: a folder as transformers saves it, or a name on the Hugging Face hub. Images at a time.
    latent_classes.clip_model = "openai/clip-vit-base-patch32"
    latent_classes.clip_batch_size = 64
    # For clip_zeroshot: the classes to tell apart, () for the data set's own; and sentences with {} for the name, ()
    # for CLIP's 18 for CIFAR.
    latent_classes.class_names = ()
    latent_classes.prompts = ()
    # For file.
    latent_classes.file = ""

    config.selection = selection = ConfigDict()
    # "sas" (Algorithm 1 of the paper), "facility_location" or "similarity_sum" (what the authors' code computes). "sas"
    # was shown to beat random images within the labels of 20 of CIFAR-100's classes, and not within k-means of a small
    # proxy; the others are not told from it yet (docs/results.md).
    selection.objective = "sas"
    # "cosine" (max(0, mean over pairs of views); needs one vector an example), "clipped_cosine" (mean of max(0, .)) or
    # "gaussian" (mean of exp(-distance^2 / tau)); the last two compare all pairs of views.
    selection.similarity = "cosine"
    selection.tau = 0.5
    # Similarity of an example to itself, 1 or 0; 0 asks that it be represented by another one.
    selection.self_similarity = 1.0
    # How a budget is divided among the latent classes: "proportional" to their sizes, or "balanced": the same number
    # from each class as far as it has so many.
    selection.budgets = "proportional"
    # A .npy file, float [n, d] in the data set's order: measures the similarity in place of the proxy's embeddings.
    selection.similarity_embeddings = ""
    # A subset made elsewhere, which the arm ("file", 1.0, seed) trains on: a .npy, .npz, .csv, .parquet, .txt or .pkl
    # of indices, ids or paths.
    selection.file = ""
    # What its indices count: "positions" (the images as they are here), "original" (the published data set, as
    # torchvision numbers it; of file_split, or several joined, "train+unlabelled"), "ids" (nothing, its ids are used),
    # or "auto": what there is no doubt of.
    selection.file_order = "auto"
    selection.file_split = ""
    # Leave out, and count, entries that are no image here or stand there twice; else they are refused.
    selection.file_drop = False

    # Further partitions, to compare in one run: the arm ("sas@NAME", 0.2, 0) ranks within config.partitions.NAME. Each
    # is a ConfigDict of the fields of config.latent_classes, and of config.selection `budgets` and
    # `similarity_embeddings`, that it has in place of those above: {"method": "labels"}, say.
    config.partitions = ConfigDict()

    # The encoder trained on each subset.
    config.encoder = _encoder(depth=18)
    config.train = _train()

    # What trains the arms that name no method: "simclr" (under config.train), or one of `methods`.
    config.method = "simclr"
    config.methods = methods = ConfigDict()
    methods.byol = _byol()
    methods.simsiam = _simsiam()
    methods.moco = _moco()

    # What is trained and compared: (selector, fraction of the images in (0, 1], seed), and perhaps a method, and a step
    # rule, after them. Selectors: "selected" (the objective above), "sas", "facility_location", "similarity_sum",
    # "facility_location_self0" (with self_similarity 0), "random" (uniform), "random_balanced" (from the latent classes
    # by their budgets), "prototypes_easy" and "prototypes_hard" (Sorscher et al. 2022: nearest to, or furthest from,
    # the mean of their latent class), "k_center" (farthest first within the latent classes), "semdedup" (Abbas et al.
    # 2023: the fewest near duplicates within the latent classes), "file" (the whole of
    # selection.file, fraction 1), "full" (fraction 1). "SELECTOR@NAME" works within config.partitions.NAME. Step rules:
    # "epochs" (train.epochs through the subset, as in the paper) or "steps" (as many steps as all images have in
    # train.epochs).
    config.arms = (("selected", 0.2, 0), ("random", 0.2, 0), ("full", 1.0, 0))

    config.evaluation = evaluation = ConfigDict()
    # Linear probe: L2 on the weights (added to the mean cross-entropy), and the most L-BFGS iterations.
    evaluation.probe_l2 = 1e-5
    evaluation.probe_iterations = 500
    # Further probes that see only so much of the labels, each in (0, 1), at least one label a class: (0.01, 0.1), say.
    evaluation.probe_fractions = ()
    # Where given, each probe chooses its L2 from these on a held-out fifth of its training labels.
    evaluation.probe_l2_grid = ()
    # Alignment of views, class centres and the nearest-centre classifier, on the subset and on all: of each encoder two
    # views of every image.
    evaluation.geometry = True
    # Train the encoder once more on each subset of these fractions, with its labels, by cross entropy and under
    # config.train, and measure it on the test images: what the subset is worth to supervised training.
    evaluation.supervised_fractions = ()
    # Weighted kNN: neighbours (at most the train images) and temperature.
    evaluation.knn_neighbours = 200
    evaluation.knn_temperature = 0.1
    # Images on one device at a time.
    evaluation.batch_size = 512

    # "auto": bfloat16 on accelerators, float32 on CPU. Parameters, statistics and loss are float32 always.
    config.compute_dtype = "auto"

    # How a run is carried out. Nothing here changes its numbers, so these may differ when a run goes on.
    config.runtime = runtime = ConfigDict()
    # A checkpoint after so many epochs, and at the end of a chunk after so many seconds.
    runtime.checkpoint_epochs = 10
    runtime.checkpoint_seconds = 120.0
    # Checkpoints kept of each training run, the newest so many, >= 1; the one of the lowest loss is kept beside them.
    runtime.keep_checkpoints = 2
    # Processes that decode streamed images, >= 0; 0 is a thread for each core of this one, which is enough for most.
    runtime.data_workers = 0
    # With --distributed: a process that says nothing for so long is dead, and ends the others. Seconds, >= 5.
    runtime.heartbeat_seconds = 100.0
    return config


def _encoder(depth: int) -> ConfigDict:
    encoder = ConfigDict()
    # ResNet depth: 10, 18, 34 or 50.
    encoder.depth = depth
    # Factor on the number of channels, > 0; 0.25 is some ten times faster on a CPU.
    encoder.width = 1.0
    # First layers: "3x3" (about 32 pixels), "3x3_pool" (64 to 96), "7x7_pool" (224).
    encoder.stem = "3x3"
    # A file of the weights that training begins with, "" for random ones: a .safetensors of sas_jax.export, or
    # torchvision's weights of the same depth and stem (.safetensors, .pth). The head is random in any case.
    encoder.init = ""
    # Of the projection head; hidden 0 means as wide as the representation.
    encoder.head_hidden = 0
    encoder.head_features = 128
    return encoder


def _train() -> ConfigDict:
    train = ConfigDict()
    train.epochs = 400
    # Images a step; each gives two views. The loss compares each view with all the others of the batch.
    train.batch_size = 512
    # Of NT-Xent, > 0.
    train.temperature = 0.5
    # "adam" (decay as torch.optim.Adam's: L2 added to the gradient, on all parameters), "adamw" (decay apart from the
    # gradient, on kernels only), "sgd" (momentum 0.9, decay as torch.optim.SGD's) or "lars" (SimCLR's for batches over
    # 1,024: with it learning_rate=0.3, rate_scaling="linear", weight_decay=1e-6, schedule="cosine", warmup_epochs=10).
    train.optimizer = "adam"
    train.learning_rate = 1e-3
    train.weight_decay = 1e-6
    # What the learning rate is multiplied with: "none", "linear" (batch_size / 256) or "sqrt" (its root).
    train.rate_scaling = "none"
    # "constant", or "cosine": to 0 at the end by half a cosine. Before either the rate rises over `warmup_epochs` >= 0.
    train.schedule = "constant"
    train.warmup_epochs = 0.0
    # Compute each block anew on the way back: what large images and batches need to fit. A third slower.
    train.remat = False
    # Steps that a run may skip, >= 0, because their loss or gradient was not finite. 0: the first one ends the run.
    train.skip_nonfinite = 0
    # On a GPU: the same bits on every run and after every restart, at the price of speed. A CPU always has them.
    train.deterministic = False
    return train


def _byol() -> ConfigDict:
    """BYOL: what differs from config.train.

    From lightly's CIFAR-10 benchmark (lightly-ai/lightly, cifar10_benchmark.py: SGD at 0.06 for 128 images); that the
    momentum rises to 1 is the paper's (arXiv 2006.07733).
    """
    byol = _sgd(learning_rate=0.12)
    # Of the projection head and, hidden, the predictor; 0 means as wide as the representation.
    byol.head_hidden = 1024
    byol.head_features = 256
    byol.predictor_hidden = 1024
    # Of the target's moving average, in [0, 1], at the beginning and the end of a run.
    byol.momentum = 0.99
    byol.final_momentum = 1.0
    return byol


def _simsiam() -> ConfigDict:
    """SimSiam: what differs from config.train. Chen & He 2021 (arXiv 2011.10566), appendix D, for CIFAR-10."""
    simsiam = _sgd(learning_rate=0.03)
    simsiam.head_hidden = 2048
    simsiam.head_features = 2048
    simsiam.predictor_hidden = 512
    return simsiam


def _moco() -> ConfigDict:
    """MoCo v2: what differs from config.train.

    From facebookresearch/moco's CIFAR-10 demo (SGD at 0.06 for 512 images), with the two-layer head of v2.
    """
    moco = _sgd(learning_rate=0.03)
    moco.head_hidden = 0
    moco.head_features = 128
    moco.momentum = 0.99
    moco.final_momentum = 0.99
    # Of the loss, > 0.
    moco.temperature = 0.1
    # Keys of earlier batches, a multiple of two batches.
    moco.queue_size = 4096
    # A batch is divided into so many BatchNorm batches, keys otherwise than queries.
    moco.batch_norm_groups = 8
    return moco


def _sgd(learning_rate: float) -> ConfigDict:
    """What all three share; the fields are those of config.train."""
    train = ConfigDict()
    train.optimizer = "sgd"
    train.learning_rate = learning_rate
    train.rate_scaling = "linear"
    train.weight_decay = 5e-4
    train.schedule = "cosine"
    train.warmup_epochs = 0.0
    return train

"""Training methods: the modules that each adds to an encoder, its loss, and its state between steps."""

from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from sas_jax.errors import InputError
from sas_jax.training import losses

# A run has collapsed if the spread of its outputs is below this (`losses.spread`; 1 is uniform on the sphere).
COLLAPSED = 0.1


class Method(nn.Module):
    """An encoder that is trained with a loss.

    The state of a method, apart from parameters and statistics, is in additional variable collections: `begin` creates
    them, the loss reads and may change them, and `follow` updates them after each step's parameters.

    Attributes:
        encoder: maps images to representations.
    """

    encoder: nn.Module

    @classmethod
    def build(cls, backbone: nn.Module, head: Callable[..., nn.Module], encoder: Any, train: Any) -> "Method":
        """Builds the method from a config.

        Args:
            backbone: maps images to representations.
            head: creates a projection head with the given `hidden` and `features`.
            encoder: config.encoder, or config.proxy.encoder.
            train: config.train, or config.proxy.train, with the method's own fields (`plan.training`).
        """
        raise NotImplementedError

    @classmethod
    def check(cls, train: Any) -> None:
        """Raises InputError if the config's fields, as passed to `build`, are incompatible."""

    def encode(self, images: jax.Array) -> jax.Array:
        """float [n, h, w, 3], normalised -> float32 [n, d]: the representation, with BatchNorm's running statistics."""
        return self.encoder(images, train=False)

    @nn.nowrap
    def begin(self, params: Any, key: jax.Array) -> dict[str, Any]:
        """Creates the method's collections from the initial parameters."""
        del params, key
        return {}

    @nn.nowrap
    def follow(self, params: Any, kept: dict[str, Any], done: jax.Array) -> dict[str, Any]:
        """Updates the method's collections after a step.

        Args:
            params: the new parameters.
            kept: the collections as updated by the loss.
            done: float32 [], the fraction of the run's steps before this one, in [0, 1).
        """
        del params, done
        return kept

    def _show(self, outputs: jax.Array) -> None:
        """Reports the spread of the outputs, float [n, d], to the step; it goes to 0 if they collapse."""
        self.sow("seen", "spread", losses.spread(outputs), reduce_fn=lambda _, new: new, init_fn=lambda: None)


class SimCLR(Method):
    """An encoder and a projection head, trained with the NT-Xent loss (Chen et al. 2020, arXiv 2002.05709).

    Attributes:
        head: maps representations to the space of the loss.
        temperature: temperature of the loss.
    """

    head: nn.Module
    temperature: float = 0.5

    @classmethod
    def build(cls, backbone: nn.Module, head: Callable[..., nn.Module], encoder: Any, train: Any) -> Method:
        projection = head(hidden=encoder.head_hidden, features=encoder.head_features)
        return cls(backbone, projection, temperature=train.temperature)

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """float [n, h, w, 3], normalised -> float32 [n, features]: the head's outputs."""
        return self.head(self.encoder(images, train=train), train=train)

    def loss(self, images: jax.Array) -> jax.Array:
        """float [n, 2, h, w, 3], two views of each image -> float32 []; both views are in one BatchNorm batch."""
        n = images.shape[0]
        z = self(images.reshape(2 * n, *images.shape[2:]), train=True)
        self._show(z)
        return losses.nt_xent(z.reshape(n, 2, -1), temperature=self.temperature)


class _Predicting(Method):
    """Encoder, head and predictor: the prediction of each view is trained to match a target from the other view.

    Each view is a separate BatchNorm batch, as in the authors' code of both methods.

    Attributes:
        head: maps representations to projections.
        predictor: maps projections to predictions.
    """

    head: nn.Module
    predictor: nn.Module

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """float [n, h, w, 3], normalised -> float32 [n, features]: the predictor's outputs."""
        return self.predictor(self.head(self.encoder(images, train=train), train=train), train=train)

    def loss(self, images: jax.Array) -> jax.Array:
        """float [n, 2, h, w, 3], two views of each image -> float32 [], in [-1, 1]."""
        views = images[:, 0], images[:, 1]
        projections = [self.head(self.encoder(view, train=True), train=True) for view in views]
        self._show(jnp.concatenate(projections))
        predicted, predicted_other = (self.predictor(z, train=True) for z in projections)
        wanted, wanted_other = self._wanted(views, projections)
        return (losses.negative_cosine(predicted, wanted_other) + losses.negative_cosine(predicted_other, wanted)) / 2

    def _wanted(self, views: Sequence[jax.Array], projections: Sequence[jax.Array]) -> Sequence[jax.Array]:
        """Returns the target from each view, float32 [n, features]; no gradient flows through it."""
        raise NotImplementedError


class SimSiam(_Predicting):
    """The prediction of each view matches the other view's projection (Chen & He 2021, arXiv 2011.10566)."""

    @classmethod
    def build(cls, backbone: nn.Module, head: Callable[..., nn.Module], encoder: Any, train: Any) -> Method:
        del encoder
        projection = head(hidden=train.head_hidden, features=train.head_features)
        return cls(backbone, projection, _predictor(head, train))

    def _wanted(self, views: Sequence[jax.Array], projections: Sequence[jax.Array]) -> Sequence[jax.Array]:
        return projections


class _WithTarget(Method):
    """Encoder and head, and a target network whose parameters are the exponential moving average of theirs.

    The target uses batch statistics in BatchNorm too, so it has no running statistics.

    Attributes:
        head: maps representations to projections.
        momentum: momentum of the average at the start of the run, in [0, 1].
        final_momentum: momentum at the end of the run; in between it follows half a cosine.
    """

    head: nn.Module
    momentum: float
    final_momentum: float

    @nn.nowrap
    def begin(self, params: Any, key: jax.Array) -> dict[str, Any]:
        del key
        return {"target": {"params": {name: params[name] for name in ("encoder", "head")}}}

    @nn.nowrap
    def follow(self, params: Any, kept: dict[str, Any], done: jax.Array) -> dict[str, Any]:
        away = (jnp.cos(jnp.pi * done) + 1) / 2
        momentum = self.final_momentum - (self.final_momentum - self.momentum) * away
        target = kept["target"]["params"]
        followed = jax.tree.map(
            lambda old, new: old + (1 - momentum) * (new - old), target, {k: params[k] for k in target}
        )
        return kept | {"target": {"params": followed}}

    def _target(self, images: jax.Array) -> jax.Array:
        """float [n, h, w, 3] -> float32 [n, features]: the target's outputs, without gradient."""
        return jax.lax.stop_gradient(self._through(self.get_variable("target", "params"), None, images)[0])

    def _through(self, params: Any, statistics: Any, x: jax.Array) -> tuple[jax.Array, dict[str, Any]]:
        """Applies encoder and head with these parameters, as a pure function; returns outputs and new statistics."""
        updated: dict[str, Any] = {}
        for name, module in (("encoder", self.encoder), ("head", self.head)):
            variables = {"params": params[name]}
            if statistics is not None and name in statistics:
                variables["batch_stats"] = statistics[name]
            alone = module.clone(parent=None, name=None)
            x, found = alone.apply(variables, x, train=True, mutable=["batch_stats"])
            updated |= {name: found["batch_stats"]} if "batch_stats" in found else {}
        return x, updated


class BYOL(_Predicting, _WithTarget):
    """The prediction of each view matches the target's projection of the other (Grill et al. 2020, arXiv 2006.07733).

    The loss is a quarter of the paper's, minus 1: the paper sums the squared distances of unit vectors over both views,
    4 - 2 (cos + cos).
    """

    @classmethod
    def build(cls, backbone: nn.Module, head: Callable[..., nn.Module], encoder: Any, train: Any) -> Method:
        del encoder
        return cls(
            backbone,
            head(hidden=train.head_hidden, features=train.head_features, output_norm=False),
            momentum=train.momentum,
            final_momentum=train.final_momentum,
            predictor=_predictor(head, train),
        )

    def _wanted(self, views: Sequence[jax.Array], projections: Sequence[jax.Array]) -> Sequence[jax.Array]:
        return [self._target(view) for view in views]


class MoCo(_WithTarget):
    """Each view is matched to the target's key of the other view, among the keys of earlier batches (He et al. 2020).

    This is MoCo v2 with the symmetric loss. A key must not share its BatchNorm batch with its query, or the batch
    statistics leak the solution of the loss. The authors compute the statistics per GPU and shuffle the keys over the
    GPUs; here each batch is divided into groups, the queries in order and the keys interleaved.

    Attributes:
        temperature: temperature of the loss.
        queue_size: number of keys in the queue, a multiple of two batches.
        groups: BatchNorm groups per batch; 1 does not separate keys from queries.

    Source: arXiv 1911.05722 and 2003.04297; the symmetric loss and the groups, facebookresearch/moco's CIFAR-10 demo.
    """

    temperature: float = 0.1
    queue_size: int = 4096
    groups: int = 8

    @classmethod
    def build(cls, backbone: nn.Module, head: Callable[..., nn.Module], encoder: Any, train: Any) -> Method:
        del encoder
        return cls(
            backbone,
            head(hidden=train.head_hidden, features=train.head_features, hidden_norm=False, output_norm=False),
            momentum=train.momentum,
            final_momentum=train.final_momentum,
            temperature=train.temperature,
            queue_size=train.queue_size,
            groups=train.batch_norm_groups,
        )

    @classmethod
    def check(cls, train: Any) -> None:
        batch, groups, keys = train.batch_size, train.batch_norm_groups, train.queue_size
        if batch % groups or batch < 2 * groups:
            raise InputError(
                f"config.train.batch_size must be a multiple of MoCo's {groups} BatchNorm groups and at least "
                f"{2 * groups}, got {batch}. Change it, or config.methods.moco.batch_norm_groups."
            )
        if keys < 2 * batch or keys % (2 * batch):
            raise InputError(
                f"config.methods.moco.queue_size must be a multiple of two batches ({2 * batch} keys), got {keys}. "
                f"Choose {max(1, round(keys / (2 * batch))) * 2 * batch}."
            )

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """float [n, h, w, 3], normalised -> float32 [n, features]: the head's outputs."""
        return self.head(self.encoder(images, train=train), train=train)

    @nn.nowrap
    def begin(self, params: Any, key: jax.Array) -> dict[str, Any]:
        features = self.head.features
        keys = losses.unit(jax.random.normal(key, (self.queue_size, features)))
        return super().begin(params, key) | {"queue": {"keys": keys}}

    def loss(self, images: jax.Array) -> jax.Array:
        """float [n, 2, h, w, 3], two views of each image -> float32 []; adds the 2n new keys to the queue."""
        n, groups = images.shape[0], self.groups
        views = images[:, 0], images[:, 1]
        queue: jax.Array = self.get_variable("queue", "keys")
        found = []
        for view in views:
            apart = view.reshape(groups, n // groups, *view.shape[1:])
            queries, statistics = jax.vmap(self._through, (None, None, 0))(
                self.variables["params"], self.variables["batch_stats"], apart
            )
            for name, each in jax.tree.map(lambda s: jnp.mean(s, axis=0), statistics).items():
                self.put_variable("batch_stats", name, each)
            interleaved = jnp.swapaxes(view.reshape(n // groups, groups, *view.shape[1:]), 0, 1)
            keys = jnp.swapaxes(jax.vmap(self._target)(interleaved), 0, 1)
            found.append((queries.reshape(n, -1), losses.unit(keys.reshape(n, -1))))
        (query, key), (query_other, key_other) = found
        self._show(jnp.concatenate([query, query_other]))
        self.put_variable("queue", "keys", jnp.concatenate([key, key_other, queue])[: self.queue_size])
        one = losses.info_nce(query, key_other, queue, temperature=self.temperature)
        return (one + losses.info_nce(query_other, key, queue, temperature=self.temperature)) / 2


def _predictor(head: Callable[..., nn.Module], train: Any) -> nn.Module:
    return head(hidden=train.predictor_hidden, features=train.head_features, output_norm=False)


METHODS: dict[str, type[Method]] = {"simclr": SimCLR, "byol": BYOL, "simsiam": SimSiam, "moco": MoCo}
"""The methods that arms may use, by name. The first one is the paper's, and trains the proxy."""
DEFAULT = next(iter(METHODS))


class Supervised(Method):
    """An encoder and a linear classifier, trained with cross entropy; both views of an image share its label.

    Attributes:
        classifier: maps representations to the logits of c classes.
    """

    classifier: nn.Module

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        """float [n, h, w, 3], normalised -> float32 [n, c], the logits."""
        return self.classifier(self.encoder(images, train=train))

    def loss(self, images: jax.Array, labels: jax.Array) -> jax.Array:
        """float [n, 2, h, w, 3], two views of each image, and int32 [n] -> float32 []."""
        n = images.shape[0]
        logits = self(images.reshape(2 * n, *images.shape[2:]), train=True)
        self._show(logits)
        return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, jnp.repeat(labels, 2)))

"""The peer's side: TensorFlow Model Optimization, in an environment of its own (`scripts/env bench-tfmot`).

    .venvs/bench-tfmot/bin/python tests/bench/compress/tfmot_side.py PLAN.json

The plan names weights, data, methods, seeds and steps; results are those of `results`: one file and one line
each, and what is there is not made again. Nothing of Fleet is imported here: that environment has none of it.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras as keras
from tensorflow_model_optimization.python.core.clustering.keras.experimental import cluster as sparse_cluster

MOBILE = "mobilenetv2-"
cluster_keras = tfmot.clustering.keras
combine = tfmot.experimental.combine
prune_keras = tfmot.sparsity.keras
quantize_keras = tfmot.quantization.keras


class Side:
    """``plan``: as `tests.bench.compress.__main__` writes it. Networks that several methods go on from are
    trained once."""

    def __init__(self, plan: dict[str, Any], seed: int) -> None:
        self.plan, self.seed = plan, seed
        self.weights = {name: read_weights(file) for name, file in plan["weights"].items()}
        with np.load(plan["data"]) as arrays:
            count = plan["images"]
            self.x = arrays["x_train"][:count].astype(np.float32)
            self.y = arrays["y_train"][:count]
        self.kept: dict[tuple[Any, ...], list[Any]] = {}

    def start(self, name: str = "resnet8") -> Any:
        model = BUILD[name]()
        model.set_weights(self.weights[name])
        return model

    def fit(self, model: Any, kind: str, callbacks: list[Any] | None = None) -> Any:
        """One epoch in the order that Fleet's own loop takes for this seed."""
        batch = self.plan["batch_size"]
        steps = -(-len(self.x) // batch)
        rate = keras.optimizers.schedules.CosineDecay(self.plan["rates"][kind], steps)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(rate), loss)
        order = np.random.default_rng((self.seed, 0)).permutation(len(self.x))
        model.fit(
            self.x[order],
            self.y[order],
            batch_size=batch,
            shuffle=False,
            verbose=0,
            callbacks=callbacks or [],
        )
        return model

    def keep(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """Return the network that is kept as ``key``, made when it is asked for first."""
        if key not in self.kept:
            keras.utils.set_random_seed(self.seed)
            self.kept[key] = make().get_weights()
        model = self.start()
        model.set_weights(self.kept[key])
        return model

    def sparse(self, share: float) -> Any:
        return self.keep((share,), lambda: self.prune(self.start(), share))

    def sparse_clusters(self, share: float, entries: int) -> Any:
        return self.keep((share, entries), lambda: self.cluster(self.sparse(share), entries, True))

    def prune(self, model: Any, share: float) -> Any:
        steps = -(-len(self.x) // self.plan["batch_size"])
        schedule = prune_keras.PolynomialDecay(0.0, share, 0, max(1, int(0.75 * steps)), frequency=10)
        pruned = prune_keras.prune_low_magnitude(model, pruning_schedule=schedule)
        return prune_keras.strip_pruning(self.fit(pruned, "prune", [prune_keras.UpdatePruningStep()]))

    def cluster(self, model: Any, entries: int, keep_zeros: bool) -> Any:
        how = cluster_keras.CentroidInitialization.KMEANS_PLUS_PLUS
        wrap = sparse_cluster.cluster_weights if keep_zeros else cluster_keras.cluster_weights
        extra = {"preserve_sparsity": True} if keep_zeros else {}
        clustered = wrap(model, number_of_clusters=entries, cluster_centroids_init=how, **extra)
        return cluster_keras.strip_clustering(self.fit(clustered, "cluster"))

    def make(self, method: str) -> bytes:
        keras.utils.set_random_seed(self.seed)
        of_mobile = method.startswith(MOBILE)
        model = self.start("mobilenetv2" if of_mobile else "resnet8")
        method = method.removeprefix(MOBILE)
        kind, _, rest = method.partition("-")
        if kind.startswith("cluster"):
            return self.convert(self.cluster(model, int(kind.removeprefix("cluster")), False))
        if kind == "pcqat":
            share, entries = rest.split("-")
            return self.convert_int8_aware(self.combine(int(share) / 100, int(entries)))
        return {
            "float": lambda: self.convert(model),
            "int8": lambda: self.convert_int8(model),
            "int8-aware": lambda: self.convert_int8_aware(
                self.fit(quantize_keras.quantize_model(model), "aware")
            ),
            "prune50-int8": lambda: self.convert_int8(self.sparse(0.5)),
        }[method]()

    def combine(self, share: float, entries: int) -> Any:
        """Pruning, clustering that keeps the zeros, aware training that keeps both: PCQAT."""
        sparse = self.sparse_clusters(share, entries)
        scheme = combine.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity=True)
        return self.fit(
            quantize_keras.quantize_apply(quantize_keras.quantize_annotate_model(sparse), scheme), "aware"
        )

    def convert(self, model: Any) -> bytes:
        return bytes(self._converter(model).convert())

    def convert_int8(self, model: Any) -> bytes:
        converter = self._converter(model)
        order = np.random.default_rng(self.seed).permutation(len(self.x))[: self.plan["calibration"]]
        samples = self.x[np.sort(order)]
        converter.representative_dataset = lambda: ([sample[np.newaxis]] for sample in samples)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        return self._ask_for_int8(converter)

    def convert_int8_aware(self, model: Any) -> bytes:
        return self._ask_for_int8(self._converter(model))

    def _ask_for_int8(self, converter: Any) -> bytes:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
        return bytes(converter.convert())

    def _converter(self, model: Any) -> Any:
        """A batch of one, probabilities out: as Fleet converts."""
        spec = tf.TensorSpec((1, *model.input.shape[1:]), tf.float32, name="input")
        function = tf.function(lambda x: tf.nn.softmax(model(x, training=False)), input_signature=[spec])
        return tf.lite.TFLiteConverter.from_concrete_functions([function.get_concrete_function()], model)


def build_resnet8() -> Any:
    """The layers of `resnet8`, in the order of their weights, in the Keras of before."""
    inputs = keras.Input((32, 32, 3))
    x = _convolve(inputs, 16)
    for stage, filters in enumerate((16, 32, 64)):
        shortcut, stride = x, 1 if stage == 0 else 2
        x = _convolve(x, filters, stride)
        x = _convolve(x, filters, relu=False)
        if stride != 1:
            shortcut = keras.layers.Conv2D(filters, 1, stride, padding="same")(shortcut)
        x = keras.layers.ReLU()(keras.layers.Add()([shortcut, x]))
    x = keras.layers.Flatten()(keras.layers.AveragePooling2D(8)(x))
    return keras.Model(inputs, keras.layers.Dense(10)(x))


def _convolve(x: Any, filters: int, stride: int = 1, relu: bool = True) -> Any:
    x = keras.layers.Conv2D(filters, 3, stride, padding="same")(x)
    x = keras.layers.BatchNormalization(momentum=0.9)(x)
    return keras.layers.ReLU()(x) if relu else x


def build_mobilenet() -> Any:
    """The layers and names are the same on both sides; padding is written another way."""
    return keras.applications.MobileNetV2(
        input_shape=(32, 32, 3), alpha=0.25, weights=None, classes=10, classifier_activation=None
    )


BUILD = {"resnet8": build_resnet8, "mobilenetv2": build_mobilenet}


def read_weights(file: str) -> list[Any]:
    with np.load(file) as arrays:
        return [arrays[f"weight_{number}"] for number in range(len(arrays.files) - 1)]


def main() -> None:
    plan = json.loads(Path(sys.argv[1]).read_text())
    folder = Path(plan["folder"])
    for seed, names in plan["methods"].items():
        side = Side(plan, int(seed))
        for name in names:
            begin = time.monotonic()
            content = side.make(name)
            seconds = round(time.monotonic() - begin, 1)
            (folder / f"tfmot-{name}-{seed}.tflite").write_bytes(content)
            line = {
                "side": "tfmot",
                "method": name,
                "seed": int(seed),
                "seconds": seconds,
                "how": plan["how"],
            }
            with (folder / plan["lines"]).open("a") as lines:
                lines.write(json.dumps(line) + "\n")
            print(f"  tfmot {name}, seed {seed}: {len(content)} bytes, {seconds} s", flush=True)


if __name__ == "__main__":
    main()

"""Keras on TensorFlow: `model.fit`."""

from __future__ import annotations

import os

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="", KERAS_BACKEND="tensorflow")

import keras
import tensorflow as tf
from serve import Data, Work, serve, threads

tf.config.threading.set_intra_op_parallelism_threads(threads())
tf.config.threading.set_inter_op_parallelism_threads(threads())


def make(data: Data, work: Work):  # type: ignore[no-untyped-def]
    keras.backend.clear_session()
    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input((work.sizes[0],))])
    for h in work.sizes[1:-1]:
        net.add(keras.layers.Dense(h, "relu"))
    net.add(keras.layers.Dense(work.sizes[-1]))
    net.set_weights(data.start)
    net.compile(keras.optimizers.SGD(work.rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    def epoch() -> float:
        return float(net.fit(data.x, data.y, batch_size=work.batch, epochs=1, verbose=0).history["loss"][0])

    def accuracy() -> float:
        return float((net.predict(data.x_test, batch_size=1000, verbose=0).argmax(1) == data.y_test).mean())

    return epoch, accuracy


serve(make, f"{keras.__version__}, TensorFlow {tf.__version__}")

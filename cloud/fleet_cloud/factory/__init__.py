"""The model factory: data, training, conversion, evaluation, packaging.

The only importer of TensorFlow, Keras, scikit-learn and LiteRT on the cloud side. It runs in a
process of its own: `fleet_cloud.entrypoints.workers.build`.
"""

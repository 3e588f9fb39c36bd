"""A recipe to begin with: each key once, with what it means. It is a whole recipe by itself."""

from typing import Final

EXAMPLE: Final = """\
# How to build a model: fleet recipe check FILE, then fleet build FILE. docs/recipes.md explains each key.
model: digits                 # its name: a-z, 0-9, '.', '_', '-'

dataset:
  kind: digits                # handwritten digits, built in; or images, npz with path: FILE
  validation_fraction: 0.15   # what every decision is made on
  test_fraction: 0.2          # read once, for what is promised

architecture:
  kind: small-cnn
  units: 16                   # width of the first layer

training:
  epochs: 25                  # at most: it stops after `patience` epochs that are no better
  learning_rate: 0.002        # not 2e-3, which YAML reads as text
  seed: 1                     # the same recipe, data and libraries give the same bytes

# Networks to learn from; `float`, the network of this recipe itself, is always among them.
# teachers:
#   big:
#     architecture: {kind: small-cnn, units: 48}
#   older: {version: "digits:1.0.0"}

# What is built. No passes: the network as it was trained. Passes are carried out in order, and each result
# is kept: a build goes on where an earlier one was the same.
variants:
  - name: fp32
  - name: int8
    passes:
      - pass: int8
  - name: int8-pruned
    passes:
      - pass: prune-weights
        sparsity: 0.5         # half of the weights become zero
        tune: {epochs: 3}     # and the others learn to do without them
      - pass: int8
    back_off: 2               # a gate that does not hold: weaken a pass and try again, so often

# What each variant must hold on the validation split, or nothing is registered.
gates:
  accuracy_min: 0.95          # at least
  accuracy_drop_max: 0.02     # at most below the float network
  # agreement_min: 0.98       # same class as the float network, at least
  # size_max_bytes: 100000
  # latency_max_us: 500
  # memory_max_bytes: 1000000
"""
SCHEMA_NAME: Final = "recipe.schema.json"


def write_example(schema: str) -> str:
    """Return the example for an editor that finds the schema at ``schema``."""
    return f"# yaml-language-server: $schema={schema}\n{EXAMPLE}"

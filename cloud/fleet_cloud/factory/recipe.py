"""The recipe: one YAML file that says how to build a model."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from fleet_cloud.errors import RecipeError
from fleet_shared.errors import InvalidName
from fleet_shared.names import parse_model_name, parse_variant_name


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class Dataset(_Part, frozen=True, kw_only=True):
    """``kind``: ``digits`` (scikit-learn's, built in), ``images`` (folder or archive of
    CLASS/image files) or ``npz`` (arrays x and y). Fractions are of all samples."""

    kind: Literal["digits", "images", "npz"] = "digits"
    path: str | None = None
    image_size: int = 32
    validation_fraction: float = 0.15
    test_fraction: float = 0.2


class Architecture(_Part, frozen=True, kw_only=True):
    """``units``: width of the first layer; later ones are multiples."""

    kind: Literal["small-cnn", "mlp"] = "small-cnn"
    units: int = 16


class Training(_Part, frozen=True, kw_only=True):
    epochs: int = 25
    batch_size: int = 64
    learning_rate: float = 0.002
    seed: int = 1
    patience: int = 6


class VariantRecipe(_Part, frozen=True, kw_only=True):
    name: str
    quantize: Literal["none", "int8"] = "none"


class Gates(_Part, frozen=True, kw_only=True):
    """Fractions on the validation split. ``accuracy_min``: at least;
    ``accuracy_drop_max``: at most below the unquantized model."""

    accuracy_min: float | None = None
    accuracy_drop_max: float | None = None


class Recipe(_Part, frozen=True, kw_only=True):
    model: str
    dataset: Dataset = Dataset()
    architecture: Architecture = Architecture()
    training: Training = Training()
    variants: tuple[VariantRecipe, ...] = (
        VariantRecipe(name="fp32"),
        VariantRecipe(name="int8", quantize="int8"),
    )
    gates: Gates = Gates()


def load_recipe(path: Path) -> Recipe:
    """Read a recipe; raise `RecipeError` naming file, key and what was expected."""
    try:
        document = yaml.safe_load(path.read_text())
    except FileNotFoundError as exc:
        raise RecipeError(
            f"the recipe {path} does not exist", hint="check the path", code="recipe.missing"
        ) from exc
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise RecipeError(f"the recipe {path} cannot be read: {exc}", hint="it must be YAML") from exc
    try:
        recipe = msgspec.convert(document, Recipe)
        parse_model_name(recipe.model)
        for variant in recipe.variants:
            parse_variant_name(variant.name)
    except (msgspec.ValidationError, InvalidName) as exc:
        raise RecipeError(f"{path}: {exc}", hint=_suggest(str(exc))) from exc
    return _resolve(recipe, path)


def _resolve(recipe: Recipe, path: Path) -> Recipe:
    """Make the data set's path absolute (it is relative to the recipe), and check it."""
    dataset = recipe.dataset
    if dataset.kind == "digits":
        return recipe
    if dataset.path is None:
        raise RecipeError(f"{path}: dataset.path is needed for kind {dataset.kind!r}", hint="path: FILE")
    found = (path.parent / dataset.path).resolve()
    if not found.exists():
        raise RecipeError(
            f"{path}: dataset.path {found} does not exist",
            hint="paths are relative to the recipe",
            code="recipe.file.missing",
        )
    return msgspec.structs.replace(recipe, dataset=msgspec.structs.replace(dataset, path=str(found)))


def _suggest(message: str) -> str:
    parts = (Recipe, Dataset, Architecture, Training, VariantRecipe, Gates)
    known = [name for part in parts for name in part.__struct_fields__]
    words = [word.strip("`'\"") for word in message.split()]
    for word in words:
        if word not in known and (close := get_close_matches(word, known, 1)):
            return f"did you mean {close[0]!r}?"
    return f"known keys: {', '.join(Recipe.__struct_fields__)}"


def describe_recipe(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as it is kept in a version's lineage."""
    described: dict[str, Any] = msgspec.to_builtins(recipe)
    return described

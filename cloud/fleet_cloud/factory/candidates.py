"""All variants of a recipe as they were made, before anybody decides whether they are released."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from fleet_cloud.factory.convert import convert
from fleet_cloud.factory.from_file import FileMaker, check_file_fits
from fleet_cloud.factory.gates import Measured
from fleet_cloud.factory.keeping import Keeper
from fleet_cloud.factory.keys import digest_content, make_file_key, make_key, make_training_key
from fleet_cloud.factory.lab import Lab
from fleet_cloud.factory.measuring import Measurer, make_questions
from fleet_cloud.factory.network import Network
from fleet_cloud.factory.own_files import load_own_file
from fleet_cloud.factory.own_models import run_own_code
from fleet_cloud.factory.pipeline import Made, Pipeline, Place
from fleet_cloud.factory.quantization.targets import check_target, fit_target
from fleet_cloud.factory.recipe import Gates, Recipe, VariantRecipe, merge_gates
from fleet_cloud.factory.recipe.architecture import has_layers
from fleet_cloud.factory.recipe.mistakes import FLOAT
from fleet_cloud.factory.teachers import Train, add_teachers
from fleet_cloud.factory.train import train
from fleet_cloud.factory.variant import Candidate, Maker


@dataclass(frozen=True)
class Candidates:
    """``base``: the float network as it was made, without steps where nothing but a file is known;
    ``reference``: its file."""

    base: Made
    reference: bytes
    variants: list[Candidate]


@dataclass(frozen=True)
class Workshop:
    """Where variants are made, one by one. ``base`` and ``reference``: as of `Candidates`; ``key``: the
    digest of the networks that passes begin with and learn from."""

    base: Made
    reference: bytes
    key: str
    make: Callable[[VariantRecipe, Gates], Candidate]


@dataclass(frozen=True)
class Means:
    """What a build may use. ``fetched``: the Keras files of teachers that are versions, by their name in the
    recipe; ``allow_code``: run Python that a recipe names."""

    keeper: Keeper | None = None
    fetched: Mapping[str, bytes] | None = None
    allow_code: bool = False


def make_candidates(recipe: Recipe, lab: Lab, samples: str, means: Means) -> Candidates:
    """Return all variants, whether or not they hold their gates. ``samples``: the digest of the splits."""
    shop = open_workshop(recipe, lab, samples, means)
    made = [shop.make(variant, merge_gates(recipe.gates, variant.gates)) for variant in recipe.variants]
    return Candidates(shop.base, shop.reference, made)


def open_workshop(recipe: Recipe, lab: Lab, samples: str, means: Means) -> Workshop:
    """Return where variants of the recipe's network can be made, which is trained or read by then."""
    if has_layers(recipe.architecture):
        return _open_for_layers(recipe, lab, samples, means)
    return _open_for_file(recipe, lab, samples, means)


def _open_for_layers(recipe: Recipe, lab: Lab, samples: str, means: Means) -> Workshop:
    pipeline = Pipeline(lab, recipe.model, means.keeper)
    train_one = partial(train, allow_code=means.allow_code)
    # The recipe's own last: a layer that both register is its.
    for one in (*(teacher.architecture for teacher in recipe.teachers.values()), recipe.architecture):
        if one is not None:
            run_own_code(one, allow_code=means.allow_code)
    base = _make_float(recipe, samples, pipeline, train_one)
    add_teachers(recipe, samples, pipeline, train_one, means.fetched or {})
    reference = convert(base.network, lab)
    measurer = Measurer(reference, make_questions(lab))

    def finish(variant: VariantRecipe, made: Made) -> tuple[bytes, Measured]:
        content = convert(fit_target(made.network, variant.target), lab)
        check_target(content, variant.target)
        return content, measurer.measure(content)

    maker = Maker(pipeline, base, finish, lab.say)
    return Workshop(base, reference, make_key(pipeline.teachers), maker.make)


def _make_float(recipe: Recipe, samples: str, pipeline: Pipeline, train_one: Train) -> Made:
    """Return the network that all variants are made of, and make it known as a teacher."""
    key = make_training_key(samples, recipe.architecture, recipe.training)
    made = pipeline.begin(Place(FLOAT), key, partial(train_one, recipe.architecture, recipe.training))
    pipeline.add_teacher(FLOAT, key, lambda: made)
    return made


def _open_for_file(recipe: Recipe, lab: Lab, samples: str, means: Means) -> Workshop:
    """The layers are unknown: the same operators in other number formats."""
    path = Path(recipe.architecture.path or "")
    reference = load_own_file(path, allow_code=means.allow_code)
    check_file_fits(path, reference, lab)
    maker = FileMaker(reference, Measurer(reference, make_questions(lab)), lab)
    key = make_file_key(samples, digest_content(reference))
    return Workshop(Made(Network(None), ""), reference, key, maker.make)

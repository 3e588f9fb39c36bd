"""What a recipe says of one variant: its passes in order, the runtime it is for, and its gates."""

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from fleet_cloud.factory.recipe.passes import Int8, PassSettings

Fraction = Annotated[float, Meta(ge=0, le=1)]
Target = Literal["litert", "tflite-2.14", "openvino", "tvm"]


class Gates(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a variant must hold, on the validation split. ``accuracy_min``: at least.
    ``accuracy_drop_max``: at most below the float variant. ``agreement_min``: the share of samples with the
    class that the float variant gives, at least. The others: at most, of the model file, of the median of
    one inference here, and of what the file's tensors need."""

    accuracy_min: Fraction | None = None
    accuracy_drop_max: Fraction | None = None
    agreement_min: Fraction | None = None
    size_max_bytes: Annotated[int, Meta(ge=1)] | None = None
    latency_max_us: Annotated[float, Meta(gt=0)] | None = None
    memory_max_bytes: Annotated[int, Meta(ge=1)] | None = None


class VariantRecipe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``passes``: none is the float network as it was trained. ``gates``: in place of the recipe's, one by
    one. ``back_off``: so many times a pass is weakened when the variant does not hold its accuracy."""

    name: str
    target: Target = "litert"
    passes: tuple[PassSettings, ...] = ()
    gates: Gates = Gates()
    back_off: Annotated[int, Meta(ge=0, le=20)] = 0


DEFAULT_VARIANTS: Final = (
    VariantRecipe(name="fp32"),
    VariantRecipe(name="int8", passes=(Int8(),)),
)


def merge_gates(general: Gates, own: Gates) -> Gates:
    """Return the gates of a variant: its own where it has some, else the recipe's."""
    said = {name: value for name in own.__struct_fields__ if (value := getattr(own, name)) is not None}
    return msgspec.structs.replace(general, **said)

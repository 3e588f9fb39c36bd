"""The two coders of a stretch, and how they are told apart in a file."""

from typing import Final

from fleet_shared.codec.codebook.adaptive import AdaptiveModel
from fleet_shared.codec.codebook.alphabet import read_alphabet
from fleet_shared.codec.codebook.numbers import Reader, write_number
from fleet_shared.codec.codebook.static import STATES, StaticModel, read_static
from fleet_shared.codec.codebook.work import Work

_STATIC: Final = 4
_BY_SIZE: Final = 2
_BY_SIGN: Final = 1


AnyModel = AdaptiveModel | StaticModel


def write_model(model: AnyModel) -> bytes:
    if isinstance(model, StaticModel):
        return write_number(_STATIC) + model.alphabet.write() + model.write()
    kind = _BY_SIZE * model.by_size + _BY_SIGN * model.by_sign
    return write_number(kind) + model.alphabet.write()


def read_model(reader: Reader, work: Work) -> AnyModel:
    kind = reader.number(_STATIC)
    work.spend(STATES)
    alphabet = read_alphabet(reader)
    if kind == _STATIC:
        return read_static(alphabet, reader)
    model = AdaptiveModel(alphabet, bool(kind & _BY_SIZE), bool(kind & _BY_SIGN))
    work.spend(model.states)
    return model

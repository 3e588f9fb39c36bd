"""A model file that claims another operator version than it was made with."""

import flatbuffers
from ai_edge_litert import schema_py_generated as schema


def with_op_version(content: bytes, number: int, version: int) -> bytes:
    """Return ``content`` with the version of its operator code ``number`` changed."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(content))
    model.operatorCodes[number].version = version
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())

"""Read a YAML file whose every key counts: a key that stands twice is refused, never dropped."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any, Final

import yaml

from fleet_cloud.errors import RecipeError

_MERGE: Final = "tag:yaml.org,2002:merge"


class _RepeatedKey(yaml.constructor.ConstructorError):
    pass


class _Loader(yaml.SafeLoader):
    """YAML itself lets a second key of the same name win; a gate would silently be gone."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[object] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == _MERGE:
                continue
            if key.value in seen:
                raise _RepeatedKey(None, None, f"the key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def load_yaml(path: Path) -> Any:
    """Return the document in ``path``; raise `RecipeError` naming the place of the mistake."""
    try:
        return yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506  a SafeLoader
    except FileNotFoundError as exc:
        raise RecipeError(
            f"the recipe {path} does not exist", hint="check the path", code="recipe.missing"
        ) from exc
    except OSError as exc:
        raise RecipeError(
            f"the recipe {path} cannot be read: {exc.strerror}", hint="a recipe is a YAML file"
        ) from exc
    except RecursionError as exc:
        raise RecipeError(
            f"the recipe {path} is nested too deeply", hint="a recipe is two levels deep"
        ) from exc
    except _RepeatedKey as exc:
        raise RecipeError(
            f"the recipe {path} cannot be read: {_describe(exc)}", hint="keep one of the two"
        ) from exc
    except (yaml.YAMLError, ValueError) as exc:  # ValueError: no UTF-8, a date or number that is none
        raise RecipeError(
            f"the recipe {path} cannot be read: {_describe(exc)}", hint="a recipe is a YAML file"
        ) from exc


def _describe(exc: Exception) -> str:
    """Return one line: what is wrong, and where."""
    if isinstance(exc, yaml.MarkedYAMLError) and exc.problem_mark is not None:
        mark = exc.problem_mark
        return f"line {mark.line + 1}, column {mark.column + 1}: {exc.problem}"
    return str(exc).partition("\n")[0]

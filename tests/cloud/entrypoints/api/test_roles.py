"""Every route by every role and by nobody, as the OpenAPI document lists them: what is not declared, or not
kept to, fails here, whoever adds the route."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Final, cast

import pytest
from fastapi import APIRouter, Depends, FastAPI
from httpx import Client

from fleet_cloud.domain.people import Actor, Role
from fleet_cloud.entrypoints.api import problems
from fleet_cloud.entrypoints.api.access import open_access
from fleet_cloud.entrypoints.api.limiting import Limits
from fleet_cloud.entrypoints.api.roles import ANYBODY, IN_OPENAPI, WHY_IN_OPENAPI, declare, needs
from fleet_cloud.services.tokens import Tokens
from tests.kit.api import Api, running_api, serving
from tests.kit.people import ADMIN, BEARER, KIT_TOKEN

METHODS: Final = ("get", "put", "post", "patch", "delete", "head", "options")
REFUSED: Final = {None: (401, "api.unauthorized"), "other": (403, "api.role")}
WORDS: Final = {"sha256": "0" * 64, "path": "metadata/timestamp.json", "version": "1.0.0"}
"""What stands for a part of a path; other parts are names of nothing."""

OUTSIDE: Final = {"/openapi.json", "/api/docs", "/docs/oauth2-redirect"}
"""What FastAPI serves by itself: the documents of the API, in which nothing is secret."""


@dataclass
class Callers:
    """``http``: one for each role, and one for nobody."""

    api: Api
    http: dict[Role | None, Client]

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = self.http[None].get("/openapi.json").json()
        return found


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callers]:
    with running_api(tmp_path_factory.mktemp("api")) as api:
        secrets = {role: api.tokens.create(role.value, role, None, ADMIN)[1] for role in Role}
        http: dict[Role | None, Client] = {
            role: Client(base_url=api.url, timeout=60, headers={"Authorization": f"Bearer {secret}"})
            for role, secret in secrets.items()
        }
        http[None] = Client(base_url=api.url, timeout=60)
        yield Callers(api, http)
        for client in http.values():
            client.close()


def list_operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if method in METHODS
    ]


def fill(path: str) -> str:
    return re.sub(r"\{(\w+)\}", lambda match: WORDS.get(match[1], "nothing-1"), path)


def expected(declared: str, caller: Role | None) -> tuple[int, str] | None:
    """Return how the caller is refused, none for one who is let in."""
    if declared == ANYBODY:
        return None
    if caller is None:
        return REFUSED[None]
    return None if caller.covers(Role(declared.split(maxsplit=1)[0])) else REFUSED["other"]


def test_every_route_declares_who_may_call_it(callers: Callers) -> None:
    operations = list_operations(callers.document)
    assert len(operations) > 20
    known = {ANYBODY, *Role}
    assert [(m, p) for m, p, o in operations if str(o.get(IN_OPENAPI, "")).split(" ")[0] not in known] == []
    assert [(m, p) for m, p, o in operations if o[IN_OPENAPI] == ANYBODY and not o.get(WHY_IN_OPENAPI)] == []


def test_the_document_has_every_route_that_is_served(callers: Callers) -> None:
    """What were left out of it would be called by nobody here."""
    served = callers.api.served_paths
    assert served - set(callers.document["paths"]) == OUTSIDE


def test_every_route_lets_in_whom_it_declares_and_nobody_else(callers: Callers) -> None:
    wrong = []
    for method, path, operation in list_operations(callers.document):
        for caller, http in callers.http.items():
            answer = http.request(method, fill(path))
            refusal = expected(operation[IN_OPENAPI], caller)
            code = answer.headers.get("Content-Type") == "application/problem+json" and method != "head"
            seen = (answer.status_code, answer.json()["code"] if code else "")
            if refusal is None and answer.status_code not in (401, 403, 405, 429, 500):
                continue
            if refusal is not None and (seen == refusal or (method == "head" and seen[0] == refusal[0])):
                continue
            wrong.append((method, path, operation[IN_OPENAPI], caller, seen))
    assert wrong == []


def test_what_changes_something_is_not_for_viewers(callers: Callers) -> None:
    changing = {
        (method, path): operation[IN_OPENAPI]
        for method, path, operation in list_operations(callers.document)
        if method not in ("get", "head")
    }
    assert set(changing.values()) <= {"operator", "admin", ANYBODY}
    assert [path for (_, path), role in changing.items() if role == ANYBODY] == ["/api/v1/enrolments"]


def test_who_asks_is_judged_first_wherever_the_route_says_so() -> None:
    """In a router within a router too, and when the body comes first in the function."""
    order: list[str] = []

    def body() -> None:
        order.append("body")

    inner, outer, app = APIRouter(), APIRouter(), FastAPI()

    @inner.get("/thing")
    def thing(_body: Annotated[None, Depends(body)], _by: Annotated[Actor, needs(Role.ADMIN)]) -> str:
        return "done"

    outer.include_router(inner, prefix="/in")
    app.include_router(declare(outer), prefix="/out")
    app.state.access = open_access(
        cast("Tokens", None), Limits(0, 0), admin_secrets={"kit": KIT_TOKEN}, roles={}
    )
    problems.install(app)
    with serving(app) as url, Client(base_url=url, timeout=60) as http:
        assert http.get("/out/in/thing").status_code == 401
        assert order == []
        assert http.get("/out/in/thing", headers=BEARER).json() == "done"
        document = http.get("/openapi.json").json()
    assert document["paths"]["/out/in/thing"]["get"][IN_OPENAPI] == "admin"


def test_a_route_without_a_declaration_stops_the_application() -> None:
    router = APIRouter()

    @router.get("/secret")
    def secret() -> str:
        return "for nobody"

    with pytest.raises(ValueError, match=r"/secret declares 0 roles"):
        declare(router)

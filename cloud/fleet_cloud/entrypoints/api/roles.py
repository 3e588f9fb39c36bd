"""Which role a route needs, declared where the route is.

@router.post("/things")
def create(by: Annotated[Actor, needs(Role.OPERATOR)], body: Body) -> Response: ...

A route that whoever may call says so as well, and why: ``dependencies=[anybody("it is signed")]``. One that
says neither stops the controller at its start. Whoever asks is known, and within his limits, before anything
else of the request is looked at.
"""

from collections.abc import Iterable
from typing import Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.params import Depends as Dependency
from fastapi.routing import APIRoute

from fleet_cloud.domain.people import Actor, Role
from fleet_cloud.entrypoints.api.access import Access, address_of
from fleet_cloud.errors import Forbidden

IN_OPENAPI: Final = "x-fleet-role"
WHY_IN_OPENAPI: Final = "x-fleet-why"
ANYBODY: Final = "anybody"


class Needs:
    """A dependency that tells who asks, and refuses whoever may not."""

    def __init__(self, role: Role) -> None:
        self.role = role

    @property
    def declared(self) -> str:
        return self.role.value

    def __call__(self, request: Request) -> Actor:
        actor = access_of(request).identify(request)
        if not actor.role.covers(self.role):
            raise Forbidden(
                f"this needs the role {self.role.value}: {actor.name!r} is {actor.role.value}",
                hint="an admin gives roles: fleet token create NAME --role ROLE",
                code="api.role",
            )
        return actor


class Anybody:
    """A dependency of routes without a token; ``why`` that is safe stands in the API's documents."""

    declared = ANYBODY

    def __init__(self, why: str) -> None:
        self.why = why

    def __call__(self, request: Request) -> None:
        access_of(request).limits.admit_address(address_of(request))


def needs(role: Role) -> Any:
    return Depends(Needs(role))


def anybody(why: str) -> Any:
    return Depends(Anybody(why))


def access_of(request: Request) -> Access:
    access = request.app.state.access
    if not isinstance(access, Access):
        raise TypeError("the application has no Access")
    return access


def declare(router: APIRouter) -> APIRouter:
    """Write the role of each route into its documents, and have it judged first; raise `ValueError` for a
    route that declares none."""
    for route in router.routes:
        inner = getattr(route, "original_router", None)
        if isinstance(inner, APIRouter):
            declare(inner)
        elif isinstance(route, APIRoute):
            _write_down(route, _declaration(route))
        else:
            raise TypeError(f"{route} is no route that can declare a role")
    return router


def _write_down(route: APIRoute, found: Needs | Anybody) -> None:
    route.dependencies.insert(0, Dependency(found))
    why = {} if isinstance(found, Needs) else {WHY_IN_OPENAPI: found.why}
    route.openapi_extra = {**(route.openapi_extra or {}), IN_OPENAPI: found.declared, **why}


def _declaration(route: APIRoute) -> Needs | Anybody:
    calls: Iterable[object] = (dependency.call for dependency in route.dependant.dependencies)
    found = [call for call in calls if isinstance(call, Needs | Anybody)]
    if len(found) != 1:
        raise ValueError(f"{sorted(route.methods or ())} {route.path} declares {len(found)} roles, not one")
    return found[0]

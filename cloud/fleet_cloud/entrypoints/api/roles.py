"""Which role a route needs, declared where the route is.

@router.post("/things")
def create(body: Body, by: Annotated[Actor, needs(Role.OPERATOR)]) -> Response: ...
"""

from typing import Any

from fastapi import Depends, Request

from fleet_cloud.domain.people import Actor, Role
from fleet_cloud.entrypoints.api.access import check_operator


class Needs:
    """A dependency that tells who asks, and refuses whoever may not."""

    def __init__(self, role: Role) -> None:
        self.role = role

    def __call__(self, request: Request) -> Actor:
        return check_operator(request, request.app.state.api_token)


def needs(role: Role) -> Any:
    return Depends(Needs(role))

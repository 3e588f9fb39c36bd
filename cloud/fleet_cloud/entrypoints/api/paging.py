"""Long lists in pages: ``after`` names the last item of the page before, ``next`` the next ``after``."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from fleet_cloud.client.views import Page
from fleet_cloud.errors import NotFound

T = TypeVar("T")


def page_of(items: Sequence[T], name: Callable[[T], str], after: str | None, limit: int) -> Page[T]:
    """Return the ``limit`` items that follow the one called ``after``; raise `NotFound`
    (``page.unknown``) when there is no such item."""
    start = 0
    if after is not None:
        start = next((index for index, item in enumerate(items, 1) if name(item) == after), 0)
        if start == 0:
            raise NotFound(
                f"the list has no item {after!r} to continue after",
                hint="use the `next` of the page before",
                code="page.unknown",
            )
    found = list(items[start : start + limit])
    more = start + limit < len(items)
    return Page(items=found, next=name(found[-1]) if more else None)

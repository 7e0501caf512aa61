"""Pages of the API: cursors, so that a page never shifts while new rows arrive."""

from __future__ import annotations

from typing import Any

from django.db import DataError
from rest_framework import exceptions, pagination
from rest_framework.request import Request


class CursorPagination(pagination.CursorPagination):
    """Newest first, or by the view's ``ordering``; a size or cursor that is wrong is refused instead of ignored."""

    ordering = "-id"
    page_size = 50
    max_page_size = 200
    page_size_query_param = "page_size"
    page_size_query_description = "Rows a page, 1 to 200."
    cursor_query_description = "Where a page begins: from the ``next`` or ``previous`` of another page."

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any] | None:
        try:
            return super().paginate_queryset(queryset, request, view)
        except (exceptions.NotFound, ValueError, DataError) as problem:
            wrong = {"cursor": ["This is no cursor: take it from the next or previous of a page."]}
            raise exceptions.ValidationError(wrong) from problem

    def get_ordering(self, request: Request, queryset: Any, view: Any) -> tuple[str, ...]:
        return (getattr(view, "ordering", self.ordering),)

    def get_page_size(self, request: Request) -> int:
        asked = request.query_params.get("page_size")
        if asked is None:
            return self.page_size
        if not (asked.isascii() and asked.isdigit() and len(asked) < 4 and 1 <= int(asked) <= self.max_page_size):
            raise exceptions.ValidationError({"page_size": [f"A whole number from 1 to {self.max_page_size}."]})
        return int(asked)

"""API views of what belongs to a registered model: a model that the caller may not see is not there (404)."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db.models import QuerySet
from django.utils.functional import cached_property
from rest_framework.request import Request

from audit.errors import NotFound
from audit.rest import ApiView, Listing
from registry.models import ModelVersion, RegisteredModel


class OfModel(ApiView):
    """A view below ``models/<name>/``. Whether the model is there is settled before anything is read or done."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        self.registered_model  # noqa: B018  # raises NotFound

    @cached_property
    def registered_model(self) -> RegisteredModel:
        name = self.kwargs["name"]
        related = ("data_science", "platform", "product")
        found = RegisteredModel.objects.visible_to(self.user).select_related(*related).filter(name=name).first()
        if found is None:
            raise NotFound(f"There is no model {name!r}, or it is not yours to see.")
        return found

    def version(self, number: int) -> ModelVersion:
        related = ("service", "dataset", "training_run__pipeline__registered_model", "registered_by")
        versions = self.registered_model.versions.select_related("registered_model", *related)
        found: ModelVersion | None = versions.filter(number=number).first()
        if found is None:
            raise NotFound(f"There is no version {number} of {self.registered_model}.")
        return found

    def mine(self, rows: QuerySet[Any], pk: int) -> Any:
        """The row of this model with this id."""
        found = rows.filter(registered_model=self.registered_model, pk=pk).first()
        if found is None:
            raise NotFound(f"{self.registered_model} has no {rows.model._meta.verbose_name} {pk}.")
        return found


class ListingOfModel(OfModel, Listing):
    """The rows of one model, found by ``within``."""

    within: ClassVar[str] = "registered_model"

    def visible(self, rows: QuerySet[Any]) -> QuerySet[Any]:
        return rows.filter(**{self.within: self.registered_model})


def visible_rows(rows: QuerySet[Any], view: ApiView) -> QuerySet[Any]:
    """Of rows that name a registered model, those whose model the caller may see."""
    return rows.filter(registered_model__in=RegisteredModel.objects.visible_to(view.user))

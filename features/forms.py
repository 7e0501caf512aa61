"""The forms of the feature store's desks: a view's definition, its promise, and what replaces a version."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from django import forms
from django.contrib.auth.models import Group, User

from audit.desk import CodeText, LongText, Number, ReasonForm, RowChoice, RowChoices, ShortText
from features import reading
from features.models import DataSource, Entity, FeatureView, FeatureViewVersion, ViewState
from features.spans import ACCEPTED, parse_span
from features.typed import (
    AGGREGATIONS_HELP,
    FEATURES_HELP,
    read_aggregations,
    read_features,
    write_aggregations,
    write_features,
)


class Span(forms.CharField):
    """A length of time such as ``6h``; None of an empty text."""

    def __init__(self, **options: Any) -> None:
        text = options.pop("help_text", "")
        super().__init__(required=False, widget=ShortText().widget, help_text=f"{text} {ACCEPTED}".strip(), **options)

    def prepare_value(self, value: Any) -> Any:
        return reading.span(value) if isinstance(value, timedelta) else value

    def to_python(self, value: Any) -> Any:
        try:
            return parse_span(super().to_python(value) or "")
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error


class VersionForm(ReasonForm):
    """What a version of a view means. ``present`` starts from the newest version of the subject's view."""

    description = LongText(required=False, help_text="What the view tells, for whoever might reuse it.")
    sources = RowChoices(queryset=DataSource.objects.order_by("name"), help_text="What the expression may read.")
    expression = CodeText(help_text="One SELECT over the sources, giving join keys, both times and the columns.")
    features = LongText(required=False, help_text=FEATURES_HELP)
    aggregations = LongText(required=False, label="Windows", help_text=AGGREGATIONS_HELP)
    event_timestamp = ShortText(initial="event_timestamp", help_text="Column with the time of what a row tells.")
    known_at = ShortText(initial="known_at", help_text="Column with the time at which it was really known.")
    ttl = Span(label="Lives", help_text="A value older than this is served as null. Empty: for ever.")
    cadence = Span(label="Materialized every", help_text="Training sees values as of these instants too.")
    lookback = Span(label="Looks back", help_text="How far the expression looks back. Empty: over everything.")
    reason = None  # a draft changes nothing for anybody; publishing it is what has a reason

    def present(self, subject: Any) -> Mapping[str, Any]:
        version = subject if isinstance(subject, FeatureViewVersion) else _newest(subject)
        if version is None:
            return {"description": subject.description if subject is not None else ""}
        return {
            "description": version.view.description,
            "sources": list(version.sources.all()),
            "expression": reading.formatted(version.expression),
            "features": write_features(version.features),
            "aggregations": write_aggregations(version.aggregations),
            **{name: getattr(version, name) for name in ("event_timestamp", "known_at", "ttl", "cadence", "lookback")},
        }

    def clean_sources(self) -> tuple[str, ...]:
        return tuple(source.name for source in self.cleaned_data["sources"])

    def clean_features(self) -> list[dict[str, str]]:
        return read_features(self.cleaned_data["features"])

    def clean_aggregations(self) -> list[dict[str, Any]]:
        try:
            return read_aggregations(self.cleaned_data["aggregations"])
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error

    def clean(self) -> dict[str, Any]:
        """Windows are features by themselves; the lines of the features then only describe them."""
        cleaned = super().clean() or {}
        windows, features = cleaned.get("aggregations") or [], cleaned.get("features") or []
        said = {each["name"]: each["description"] for each in features}
        if not windows:
            return {**cleaned, "features": tuple(features), "aggregations": ()}
        if unknown := sorted(set(said) - {each["name"] for each in windows}):
            self.add_error("features", f"There is no window named {', '.join(unknown)}.")
        described = tuple({**each, "description": said.get(each["name"], "")} for each in windows)
        return {**cleaned, "features": (), "aggregations": described}


def _newest(view: FeatureView | None) -> FeatureViewVersion | None:
    return None if view is None else view.versions.select_related("view").order_by("-number").first()


class ViewForm(VersionForm):
    """A new view: also its name, what it describes, and who owns it (a group of the user)."""

    name = ShortText(max_length=60, help_text="Lower-case letters, digits, '-' and '_'. It never changes.")
    entity = RowChoice(queryset=Entity.objects.order_by("name"), help_text="What it describes; fixed for good.")
    owner = RowChoice(queryset=Group.objects.none(), help_text="One of your groups.")

    def __init__(self, subject: Any, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(subject, user, *args, **kwargs)
        self.fields["owner"].queryset = user.groups.order_by("name")  # type: ignore[attr-defined]  # a ModelChoiceField
        self.order_fields(["name", "entity", "owner"])


class PromiseForm(ReasonForm):
    freshness = Span(label="Freshness promise", help_text="The newest value is never older than this. Empty: none.")
    percent = Number(
        min_value=0, max_value=99.999, label="Consistency limit in per cent",
        help_text="Share of served cells that may differ from their recomputation before it is an incident.",
    )  # fmt: skip

    def present(self, subject: FeatureView) -> Mapping[str, Any]:
        return {"freshness": subject.freshness, "percent": subject.consistency_limit * 100}

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        percent = cleaned.pop("percent", None)
        return cleaned if percent is None else {**cleaned, "consistency_limit": percent / 100}


class DeprecateForm(ReasonForm):
    replaced_by = RowChoice(
        queryset=FeatureViewVersion.objects.none(), required=False, label="Move to",
        help_text="A published version of a view of the same entity; those who pin this one are told.",
    )  # fmt: skip

    def __init__(self, subject: FeatureViewVersion, user: User, *args: Any, **kwargs: Any) -> None:
        super().__init__(subject, user, *args, **kwargs)
        others = FeatureViewVersion.objects.filter(view__entity=subject.view.entity, state=ViewState.PUBLISHED)
        choices = others.exclude(pk=subject.pk).select_related("view").order_by("view__name", "-number")
        self.fields["replaced_by"].queryset = choices  # type: ignore[attr-defined]  # a ModelChoiceField

    def present(self, subject: FeatureViewVersion) -> Mapping[str, Any]:
        return {
            "replaced_by": subject.view.versions.filter(state=ViewState.PUBLISHED, number__gt=subject.number).first()
        }

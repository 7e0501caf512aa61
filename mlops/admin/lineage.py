"""What other tools told us in the admin: their events as sent, the datasets and jobs folded from them, the join."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.contrib import admin
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.utils.text import Truncator

from audit.desk import Decision, Desk, Lines, Link, ReasonForm, RowChoice, display
from features.models import DataSource
from registry.actions.openlineage import TOLD_AT, link_source, unlink_source
from registry.models import ExternalNode, LineageEvent
from registry.openlineage import DATASET, OURS

LONGEST_FACT = 400


class SourceForm(ReasonForm):
    source = RowChoice(
        queryset=DataSource.objects.order_by("name"),
        label="Our data source",
        help_text="The one that this dataset is. Its owner says so.",
    )


def _may_link(node: ExternalNode, user: User) -> bool:
    owned = DataSource.objects.filter(owner__in=user.groups.all())
    return node.kind == DATASET and node.namespace != OURS and node.source_id is None and owned.exists()


def _may_unlink(node: ExternalNode, user: User) -> bool:
    source = node.source
    return node.namespace != OURS and source is not None and user.groups.filter(pk=source.owner_id).exists()


@admin.register(ExternalNode)
class ExternalNodeDesk(Desk):
    list_display = ("name", "kind", "namespace", "source", "first_seen", "last_seen")
    list_select_related = ("source",)
    list_filter = ("kind", "namespace")
    search_fields = ("name", "namespace")
    show_full_result_count = False
    decisions = (
        Decision(
            name="link_source",
            label="It is our data source",
            consequence="Lineage goes on upstream of the source from here: what made this dataset made the source.",
            carry_out=link_source,
            offered=_may_link,
            form=SourceForm,
            variant="primary",
            icon="add_link",
        ),
        Decision(
            name="unlink_source",
            label="It is not",
            consequence="Lineage ends at the source again. What other tools told stays.",
            carry_out=unlink_source,
            offered=_may_unlink,
            icon="link_off",
        ),
    )

    def links(self, subject: ExternalNode, user: User) -> Iterable[Link]:
        return [
            Link("Is", [subject.source] if subject.source else []),
            Link("Made from", [edge.upstream for edge in subject.in_edges.select_related("upstream")]),
            Link("Goes into", [edge.downstream for edge in subject.out_edges.select_related("downstream")]),
        ]

    def lines(self, subject: ExternalNode) -> Iterable[Lines]:
        elsewhere = (TOLD_AT, "columnLineage")
        facts = [(name, _said(content)) for name, content in sorted(subject.facts.items()) if name not in elsewhere]
        note = "The word of whoever sent it; the newest of each facet."
        columns = [
            (name, "\n".join(f"{edge.upstream}: {', '.join(taken)}" for edge, taken in made))
            for name, made in _columns(subject).items()
        ]
        told = [Lines("What was told of it", facts, note=note)] if facts else []
        return [*told, *([Lines("Columns, and what they are made from", columns)] if columns else [])]


def _columns(node: ExternalNode) -> Mapping[str, list[tuple[Any, list[str]]]]:
    """By column of a dataset, the edges that made it and their input columns."""
    found: dict[str, list[tuple[Any, list[str]]]] = {}
    for edge in node.in_edges.select_related("upstream"):
        for column, taken in edge.columns.items():
            found.setdefault(column, []).append((edge, taken))
    return found


def _said(content: Any) -> str:
    """A facet for a person: short where it is a list of named things."""
    if isinstance(content, dict) and isinstance(content.get("fields"), list):
        names = [f"{each.get('name')}: {each.get('type', '?')}" for each in content["fields"] if isinstance(each, dict)]
        return Truncator(", ".join(names)).chars(LONGEST_FACT)
    parts = content.items() if isinstance(content, dict) else [("", content)]
    return Truncator("\n".join(f"{name} {value}".strip() for name, value in parts)).chars(LONGEST_FACT)


@admin.register(LineageEvent)
class LineageEventDesk(Desk):
    list_display = ("event_time", "kind", "event_type", "producer", "received_by", "received_at", "outcome")
    list_display_links = ("event_time", "kind")
    list_select_related = ("received_by",)
    list_filter = ("kind", "event_type")
    search_fields = ("producer", "digest", "problem")
    show_full_result_count = False

    def get_queryset(self, request: Any) -> QuerySet[Any]:
        rows = super().get_queryset(request)
        listed = request.resolver_match.url_name.endswith("_changelist")
        return rows.defer("body") if listed else rows

    @display(description="folded")
    def outcome(self, event: LineageEvent) -> str:
        if event.problem:
            return Truncator(event.problem).chars(90)
        return "yes" if event.folded_at else "waits"

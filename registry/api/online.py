"""What the address of online features takes and answers (``registry.views`` answers it)."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from audit.rest import Body, PlainJSONField
from features import online


class OnlineBody(Body):
    number = serializers.IntegerField(required=False, min_value=1, help_text="Of the service; the newest without it.")
    rows = serializers.ListField(
        child=serializers.DictField(child=PlainJSONField(allow_null=True)),
        min_length=1, max_length=online.MOST_ENTITIES,
        help_text="The join keys of one entity each, and the service's request features where it has transforms.",
    )  # fmt: skip


class OnlineAnswer(serializers.Serializer[Any]):
    service = serializers.CharField(help_text="name@number")
    at = serializers.DateTimeField(help_text="The values are as of this instant.")
    names = serializers.ListField(child=serializers.CharField(), help_text="The columns, in the vector's order.")
    rows = serializers.ListField(
        child=serializers.ListField(child=PlainJSONField(allow_null=True)),
        help_text="One per row asked for, in its order: a value per name.",
    )
    ages = serializers.ListField(
        child=serializers.ListField(child=serializers.FloatField(allow_null=True)),
        help_text="Likewise: seconds since the event that gave the value; null where nothing is known.",
    )
    statuses = serializers.ListField(
        child=serializers.ListField(child=serializers.ChoiceField(choices=online.STATUSES)),
        help_text="Likewise: why a value is null.",
    )

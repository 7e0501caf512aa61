"""The feature store's nouns: what is known, where it comes from, how a value is computed, who consumes it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q

from audit.models import Stateful

SLUG = RegexValidator(r"^[a-z][a-z0-9_-]*$", "Lower-case letters, digits, '-' and '_', starting with a letter.")


class Entity(models.Model):
    """What a feature describes, and the join keys that identify one."""

    name = models.CharField(max_length=60, unique=True, validators=[SLUG])
    join_keys = models.JSONField(help_text='Column names that together identify one, such as ["origin", "carrier"].')
    description = models.TextField(blank=True)

    class Meta:
        verbose_name_plural = "entities"
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


class DataSource(models.Model):
    """A table of raw events: where it lies, when a row happened and when it arrived."""

    name = models.CharField(max_length=60, unique=True, validators=[SLUG])
    description = models.TextField(blank=True)
    uri = models.CharField(max_length=500, help_text="Parquet file, folder or glob below the data root.")
    event_timestamp = models.CharField(max_length=60, help_text="Column that says when a row happened (UTC).")
    created_timestamp = models.CharField(
        max_length=60, blank=True, help_text="Column that says when a row arrived. A row is invisible before that."
    )
    freshness = models.DurationField(
        null=True, blank=True, help_text="Promise: the newest arrived row is never older than this."
    )
    push_schema = models.JSONField(
        default=dict,
        blank=True,
        help_text="Column to dtype, of a source that rows are pushed to (POST /api/v1/push/); empty: files only.",
    )
    owner = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="+", help_text="Who keeps the promise.")

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


class FeatureView(models.Model):
    """A group of features of one entity, computed by one expression; its versions hold the meaning."""

    name = models.CharField(max_length=60, unique=True, validators=[SLUG])
    entity = models.ForeignKey(Entity, on_delete=models.PROTECT, related_name="views")
    description = models.TextField(blank=True)
    owner = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="+")
    freshness = models.DurationField(
        null=True, blank=True, help_text="Promise: the newest value in the online store is never older than this."
    )
    consistency_limit = models.FloatField(
        default=0.0,
        help_text="Share of served cells that may differ from their recomputation before it is an incident.",
    )

    class Meta:
        ordering: ClassVar = ["name"]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(consistency_limit__gte=0, consistency_limit__lt=1), name="view_consistency_limit_is_share"
            )
        ]

    def __str__(self) -> str:
        return self.name


class Language(models.TextChoices):
    SQL = "sql", "one SELECT"
    IBIS = "ibis", "Ibis, compiled to one SELECT by the SDK"


class ViewState(models.TextChoices):
    DRAFT = "draft"
    PUBLISHED = "published"
    DEPRECATED = "deprecated"
    RETIRED = "retired"


class FeatureViewVersion(Stateful):
    """One immutable meaning of a feature view. Models pin versions; a change of meaning is a new version."""

    STATES = ViewState
    TRANSITIONS: ClassVar[Mapping[str, frozenset[str]]] = {
        ViewState.DRAFT: frozenset({ViewState.PUBLISHED, ViewState.RETIRED}),
        ViewState.PUBLISHED: frozenset({ViewState.DEPRECATED}),
        ViewState.DEPRECATED: frozenset({ViewState.RETIRED, ViewState.PUBLISHED}),
    }
    NOUN = "feature_view_version"

    view = models.ForeignKey(FeatureView, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    expression = models.TextField(help_text="One SELECT over the sources, giving join keys, times and features.")
    language = models.CharField(max_length=10, choices=Language, default=Language.SQL)
    aggregations = models.JSONField(
        default=list,
        blank=True,
        help_text="Features over trailing windows of the expression's rows: list of {name, function, column, over}.",
    )
    sources = models.ManyToManyField(DataSource, related_name="view_versions")
    features = models.JSONField(help_text="List of {name, dtype, description}.")
    event_timestamp = models.CharField(max_length=60, default="event_timestamp")
    known_at = models.CharField(max_length=60, default="known_at", help_text="When a value was really known.")
    ttl = models.DurationField(null=True, blank=True, help_text="A value older than this is not served: null instead.")
    cadence = models.DurationField(
        null=True, blank=True, help_text="Materialization interval; training sees values as of these instants too."
    )
    lookback = models.DurationField(
        null=True, blank=True, help_text="How far back the expression looks in its sources."
    )
    content_hash = models.CharField(max_length=64, help_text="SHA-256 over everything that can change a value.")
    review = models.JSONField(
        default=dict,
        blank=True,
        help_text="What the plan found when this version was applied: changed cells, look-alikes, engines compared.",
    )
    replaced_by = models.ForeignKey(
        "self", null=True, blank=True, on_delete=models.PROTECT, related_name="replaces", help_text="Move to this one."
    )
    created_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["view", "number"], name="view_version_number_once"),
            models.UniqueConstraint(fields=["view", "content_hash"], name="view_version_meaning_once"),
            models.CheckConstraint(condition=Q(state__in=ViewState.values), name="view_version_state_known"),
            models.CheckConstraint(condition=Q(language__in=Language.values), name="view_version_language_known"),
        ]
        ordering: ClassVar = ["view__name", "-number"]

    def __str__(self) -> str:
        return f"{self.view.name}@{self.number}"

    @property
    def feature_names(self) -> tuple[str, ...]:
        return tuple(feature["name"] for feature in self.features)

    @property
    def types(self) -> dict[str, str]:
        """Each feature's type name (``features.meaning.TYPES``), in the version's order."""
        return {feature["name"]: feature["dtype"] for feature in self.features}

    @property
    def is_served(self) -> bool:
        """Whether the online store is kept up to date with it: what is deprecated still serves those that pin it."""
        return self.state in (ViewState.PUBLISHED, ViewState.DEPRECATED)


class OnDemandTransform(models.Model):
    """One immutable version of a Python function that turns request data and stored features into features.

    The same text runs where a training set is built and where a request is answered (``engines.on_demand``).
    """

    name = models.CharField(max_length=60, validators=[SLUG])
    number = models.PositiveIntegerField()
    description = models.TextField(blank=True)
    owner = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="+")
    code = models.TextField(help_text="One Python function of columns, made of listed operations only.")
    inputs = models.JSONField(help_text="Names of the columns it takes: request features or view__feature.")
    features = models.JSONField(help_text="List of {name, dtype, description} it gives.")
    content_hash = models.CharField(max_length=64)
    created_at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["name", "number"], name="transform_number_once"),
            models.UniqueConstraint(fields=["name", "content_hash"], name="transform_content_once"),
        ]
        ordering: ClassVar = ["name", "-number"]

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"

    @property
    def columns(self) -> tuple[str, ...]:
        """Its columns in a dataset and in the served vector."""
        return tuple(f"{self.name}__{feature['name']}" for feature in self.features)


class FeatureService(models.Model):
    """A named, pinned list of features that a model consumes. A changed list is a new number."""

    name = models.CharField(max_length=60, validators=[SLUG])
    number = models.PositiveIntegerField()
    description = models.TextField(blank=True)
    owner = models.ForeignKey(Group, on_delete=models.PROTECT, related_name="+")
    request_features = models.JSONField(
        default=list, blank=True, help_text="Columns that come with the request itself, in order."
    )
    transforms = models.ManyToManyField(OnDemandTransform, blank=True, related_name="used_in")
    content_hash = models.CharField(max_length=64)
    created_at = models.DateTimeField()
    retired_at = models.DateTimeField(
        null=True, blank=True, help_text="Since then no model may take it up, and nothing is kept fresh for it."
    )

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["name", "number"], name="service_number_once"),
            models.UniqueConstraint(fields=["name", "content_hash"], name="service_content_once"),
        ]
        ordering: ClassVar = ["name", "-number"]

    def __str__(self) -> str:
        return f"{self.name}@{self.number}"

    def pinned(self) -> list[FeatureServiceFeature]:
        """Its features in the order of the vector, with view versions, views and entities; read once per object."""
        if "features" not in getattr(self, "_prefetched_objects_cache", {}):
            related = FeatureServiceFeature.objects.select_related("view_version__view__entity")
            models.prefetch_related_objects([self], models.Prefetch("features", related))
        return list(self.features.all())

    def pinned_transforms(self) -> list[OnDemandTransform]:
        """Its on-demand transforms in the order of the vector, which is by name; read once per object."""
        if "transforms" not in getattr(self, "_prefetched_objects_cache", {}):
            models.prefetch_related_objects([self], "transforms")
        return sorted(self.transforms.all(), key=lambda each: each.name)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the feature store adds to a request, in order."""
        return tuple(feature.column for feature in self.pinned())

    @property
    def computed(self) -> tuple[str, ...]:
        """The columns that its on-demand transforms compute, in order."""
        return tuple(column for each in self.pinned_transforms() for column in each.columns)

    @property
    def vector(self) -> tuple[str, ...]:
        """All columns that a model of this service gets, in order: the request's, the store's, the computed ones."""
        return (*self.request_features, *self.columns, *self.computed)


class FeatureServiceFeature(models.Model):
    """One pinned feature of a service, at its fixed position in the vector."""

    service = models.ForeignKey(FeatureService, on_delete=models.CASCADE, related_name="features")
    view_version = models.ForeignKey(FeatureViewVersion, on_delete=models.PROTECT, related_name="used_in")
    feature = models.CharField(max_length=60)
    position = models.PositiveIntegerField()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["service", "position"], name="service_position_once"),
            models.UniqueConstraint(fields=["service", "view_version", "feature"], name="service_feature_once"),
        ]
        ordering: ClassVar = ["position"]

    def __str__(self) -> str:
        return self.column

    @property
    def column(self) -> str:
        """The feature's column name in a dataset and in the served vector."""
        return f"{self.view_version.view.name}__{self.feature}"


class Materialization(models.Model):
    """One run that brought a view version's newest known values to the online store."""

    view_version = models.ForeignKey(FeatureViewVersion, on_delete=models.PROTECT, related_name="materializations")
    up_to = models.DateTimeField(help_text="Values known at or before this instant are in the store.")
    after = models.DateTimeField(null=True, blank=True, help_text="The instant of the run before.")
    rows = models.PositiveIntegerField()
    newest = models.DateTimeField(null=True, blank=True, help_text="Event time of the newest value written so far.")
    finished_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["view_version", "up_to"], name="materialization_once_per_instant")
        ]
        ordering: ClassVar = ["-up_to"]

    def __str__(self) -> str:
        return f"{self.view_version} up to {self.up_to:%Y-%m-%d %H:%M}"


class PushReceipt(models.Model):
    """One push of rows to a source: what makes it happen once however often it is sent."""

    source = models.ForeignKey(DataSource, on_delete=models.PROTECT, related_name="pushes")
    push_id = models.CharField(max_length=100, help_text="The sender's name for it; the same again changes nothing.")
    digest = models.CharField(max_length=64, help_text="SHA-256 over the rows.")
    rows = models.PositiveIntegerField()
    segment = models.PositiveIntegerField(help_text="Number of the file that the rows are in.")
    arrived_at = models.DateTimeField(help_text="When the rows became known; later for each push of a source.")
    written: Any = models.JSONField(default=dict, help_text="View version to rows that were newer than what it held.")
    pushed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )

    class Meta:
        ordering: ClassVar = ["-id"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["source", "push_id"], name="push_once")]
        indexes: ClassVar = [models.Index(fields=["source", "segment"], name="push_by_segment")]

    def __str__(self) -> str:
        return f"{self.source} {self.push_id}"


class OnlineValue(models.Model):
    """The online store in the portal's own database: the newest known values of one entity in one view version.

    Written and read by ``features.database_store`` in plain SQL; times are microseconds since 1970 UTC, the values are
    packed as ``engines.packing`` has it, the same bytes in every store.
    """

    pk = models.CompositePrimaryKey("view_version_id", "entity_key")
    view_version = models.ForeignKey(
        FeatureViewVersion, on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )
    entity_key = models.CharField(max_length=200, help_text="Join key values, joined by '|'.")
    event_us = models.BigIntegerField()
    known_us = models.BigIntegerField()
    packed = models.BinaryField()

    def __str__(self) -> str:
        return f"{self.view_version_id}:{self.entity_key}"


class Dataset(models.Model):
    """A training dataset: the point-in-time join of a feature service to an entity frame, snapshotted."""

    service = models.ForeignKey(FeatureService, on_delete=models.PROTECT, related_name="datasets")
    purpose = models.CharField(max_length=40, help_text="training or holdout.")
    uri = models.CharField(max_length=500, help_text="Parquet file below the data root.")
    digest = models.CharField(
        max_length=64, unique=True, help_text="SHA-256 over the full content and its definitions."
    )
    label = models.CharField(max_length=60)
    timestamp = models.CharField(max_length=60, help_text="Column with the asked time.")
    rows = models.PositiveIntegerField()
    time_from = models.DateTimeField(null=True, blank=True)
    time_to = models.DateTimeField(null=True, blank=True)
    as_of = models.DateTimeField(help_text="Nothing that arrived after this instant is in it.")
    engine = models.CharField(max_length=60, help_text="Engine and version that computed it.")
    profile = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField()
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="+"
    )

    class Meta:
        ordering: ClassVar = ["-id"]

    def __str__(self) -> str:
        return f"{self.service} {self.purpose} {self.digest[:12]}"


class ConsistencyCheck(models.Model):
    """Served values of one view version against the values recomputed offline for the instants of serving."""

    view_version = models.ForeignKey(FeatureViewVersion, on_delete=models.PROTECT, related_name="consistency_checks")
    at = models.DateTimeField()
    since = models.DateTimeField(null=True, blank=True, help_text="The served values checked are of [since, at).")
    cells = models.PositiveIntegerField()
    differing = models.PositiveIntegerField()
    features: Any = models.JSONField(default=dict, blank=True, help_text="Feature to {cells, differing}.")
    examples: Any = models.JSONField(default=list, blank=True)

    class Meta:
        ordering: ClassVar = ["-at"]

    def __str__(self) -> str:
        return f"{self.view_version}: {self.differing} of {self.cells} differ"

    @property
    def share(self) -> float:
        return self.differing / self.cells if self.cells else 0.0

    @property
    def broken(self) -> dict[str, float]:
        """Features of which a larger share of the served cells differs than the view's owner tolerates: that share."""
        shares = {name: each["differing"] / each["cells"] for name, each in self.features.items() if each["cells"]}
        return {name: share for name, share in shares.items() if share > self.view_version.view.consistency_limit}

    @property
    def is_above_limit(self) -> bool:
        """More served cells of a feature, or of all, differ than the view's owner tolerates."""
        return bool(self.broken) or self.share > self.view_version.view.consistency_limit


class FeatureStatistics(models.Model):
    """What the online store held of a view version at an instant: coverage, lag, each feature's distribution."""

    view_version = models.ForeignKey(FeatureViewVersion, on_delete=models.CASCADE, related_name="statistics")
    at = models.DateTimeField()
    entities = models.PositiveIntegerField(help_text="Entities the store has values of.")
    alive = models.PositiveIntegerField(help_text="Of those, not older than the TTL.")
    newest = models.DateTimeField(null=True, blank=True, help_text="Event time of the newest value.")
    lag = models.DurationField(
        null=True, blank=True, help_text="At that instant, how long ago the store was brought up to date."
    )
    features: Any = models.JSONField(
        default=dict, blank=True, help_text="Feature to {nulls, distinct, quantiles, top}."
    )

    class Meta:
        ordering: ClassVar = ["-at"]
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["view_version", "at"], name="feature_statistics_once_per_instant")
        ]

    def __str__(self) -> str:
        return f"{self.view_version} at {self.at:%Y-%m-%d %H:%M}"

"""What the database refuses in the feature store."""

from audit.guards import Guard, append_only, frozen, never_deleted, owes_event

# A version's content hash covers where its sources lie and how they tell time, so these may not change under it.
_SOURCE_COLUMNS = ("name", "uri", "event_timestamp", "created_timestamp")
_SOURCE_SAME = " AND ".join(f'OLD."{column}" = NEW."{column}"' for column in _SOURCE_COLUMNS)
_SOURCE_UNUSED = 'NOT EXISTS (SELECT 1 FROM features_featureviewversion_sources WHERE datasource_id = OLD."id")'

GUARDS = (
    frozen("features_entity", ("name", "join_keys")),
    frozen("features_featureview", ("name", "entity_id")),
    Guard(
        "guard_features_datasource_meaning",
        "features_datasource",
        "UPDATE",
        "features_datasource: a view version reads this source; where it lies and its times can not be changed",
        f"({_SOURCE_SAME}) OR {_SOURCE_UNUSED}",
    ),
    frozen(
        "features_featureviewversion",
        (
            "view_id", "number", "expression", "language", "aggregations", "features", "event_timestamp", "known_at",
            "ttl", "cadence", "lookback", "content_hash",
        ),
    ),
    *never_deleted("features_featureviewversion"),
    *append_only("features_featureviewversion_sources"),
    *never_deleted("features_featureservice"),
    frozen(
        "features_featureservice",
        ("name", "number", "owner_id", "request_features", "content_hash", "created_at"),
    ),
    *append_only("features_featureservice_transforms"),
    *append_only("features_ondemandtransform"),
    *append_only("features_featureservicefeature"),
    *append_only("features_dataset"),
    *append_only("features_pushreceipt"),
    *owes_event("features_entity"),
    *owes_event("features_datasource"),
    *owes_event("features_featureview"),
    *owes_event("features_featureviewversion"),
    *owes_event("features_featureviewversion_sources"),
    *owes_event("features_featureservice"),
    *owes_event("features_featureservice_transforms"),
    *owes_event("features_featureservicefeature"),
    *owes_event("features_ondemandtransform"),
    *owes_event("features_dataset"),
)  # fmt: skip

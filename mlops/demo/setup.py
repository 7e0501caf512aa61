"""What a team would set up once: sources, features, the model with its owners, pipelines, policy, endpoint, monitor."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from django.conf import settings
from django.contrib.auth.models import Group

from features import actions as features
from features.models import DataSource, FeatureService
from gates import actions as gates
from gates.policy import text
from mlops.demo import told
from mlops.demo.advice import BAD_ADVICE
from mlops.demo.flights import data, views
from mlops.demo.people import PLATFORM, PRODUCT, SCIENCE, Cast
from mlops.demo.replay import Traffic
from monitoring.actions.monitors import configure
from registry import actions as registry
from registry.models import RegisteredModel, TrainingPipeline
from rollout import actions as rollout
from rollout.models import Endpoint

OPENED = datetime(2013, 3, 31, 12, tzinfo=UTC)
"""The day before the first traffic: everything below is set up then."""
FIRST_DAY = datetime(2013, 1, 1, tzinfo=UTC)
MODEL, ENDPOINT = "late-arrival", "delay-warning"
THRESHOLD = 0.25
REQUEST_FEATURES = ("carrier", "origin", "dest", "distance", "scheduled_minutes", "month", "weekday", "minute_of_day")
ITERATIONS = 120
"""Boosting rounds: enough for the story, and a dozen trainings fit into the demo's five minutes."""
LEAK = "carrier_day_leak"
LEAK_CADENCE = timedelta(hours=12)
CODE = Path(__file__).parent / "flights"
POLICY = CODE / "policy.yaml"

PLAN = {
    "timed_rows": 3,
    "shadow": {"tolerated_prediction_shift": 0.3},
    "canary": {"tolerated_prediction_shift": 0.3},
}
"""Lateness differs by a factor of two between weeks, so a recalibrated candidate may move the mean score a lot."""

WATCH = {
    "data_jump": 0.15,
    "minimum_importance": 0.08,
    "tolerance": 0.1,
    "tolerance_cap": 0.3,
    "auc_tolerance": 0.04,
    "cool_down_days": 21,
}
"""Weather makes weeks differ: what moves less than this, or hardly counts for the score, is no reason to act."""


@dataclass(frozen=True)
class House:
    """What stands after the set-up."""

    registered_model: RegisteredModel
    endpoint: Endpoint
    pipelines: dict[str, TrainingPipeline]
    traffic: Traffic


def furnish(cast: Cast) -> House:
    """Set everything up as the people whose duty it is; raises what the verbs raise."""
    flights = data.read_flights()
    folder = Path(settings.DATA_ROOT) / "sources"
    data.write_sources(folder)
    asked, known = requests(flights), data.outcomes(flights)
    pq.write_table(pa.Table.from_pandas(asked.assign(created_at=asked["requested_at"])), folder / "requests.parquet")
    pq.write_table(pa.Table.from_pandas(known.assign(created_at=known["known_at"])), folder / "outcomes.parquet")
    sources = _sources(cast)
    honest, leaking = _services(cast, sources, str(folder))
    registered_model = _registered_model(cast)
    pipelines = _pipelines(cast, registered_model, honest, leaking)
    policy = gates.propose_policy(
        registered_model,
        document=text.load(POLICY.read_text()).model_dump(mode="json"),
        note="Standard tier; fairness by departure airport: each airport's travellers deserve the same warning.",
        actor=cast.dana,
        now=OPENED,
    )
    gates.confirm_policy(policy, reason="This is what we promise the travellers.", actor=cast.paula, now=OPENED)
    endpoint = _endpoint(cast, registered_model)
    rollout.define_business_metric(endpoint, **BAD_ADVICE, actor=cast.paula, now=OPENED)
    why = "When we do not trust the answers, nobody is warned."
    rollout.add_fallback(endpoint, name="no-warnings", score=0.0, note=why, actor=cast.paula, now=OPENED)
    configure(
        registered_model=registered_model,
        settings=WATCH | {"retrain_on": []},
        actor=cast.dana,
        reason="Watch first: nothing retrains until the team trusts what the windows say.",
        now=OPENED,
    )
    told.tell(registered_model, cast, now=OPENED)
    return House(registered_model, endpoint, pipelines, traffic(asked, known))


def _registered_model(cast: Cast) -> RegisteredModel:
    return registry.create_model(
        name=MODEL,
        title="Late arrival",
        description=(
            "Will this flight arrive 15 minutes late or more? Asked one hour before the scheduled departure, so that "
            "the booking app can warn the traveller."
        ),
        tier="standard",
        data_science=_group(SCIENCE),
        platform=_group(PLATFORM),
        product=_group(PRODUCT),
        actor=cast.admin,
        now=OPENED,
    )


def _endpoint(cast: Cast, registered_model: RegisteredModel) -> Endpoint:
    return rollout.create_endpoint(
        name=ENDPOINT,
        title="Delay warning in the booking app",
        description="Travellers are warned when the score reaches the threshold.",
        registered_model=registered_model,
        entity_column="flight_number",
        threshold=THRESHOLD,
        outcome_window=timedelta(hours=12),
        fallback=0.0,
        plan=PLAN,
        actor=cast.paula,
        now=OPENED,
    )


def requests(flights: pd.DataFrame) -> pd.DataFrame:
    """The traffic with the column that the endpoint sticks by: a traveller's flight number, the same every day."""
    asked = data.requests(flights)
    return asked.assign(flight_number=asked["carrier"] + asked["flight"].astype(str))


def traffic(asked: pd.DataFrame, known: pd.DataFrame) -> Traffic:
    """Requests and outcomes as the gateway and the prediction log take them."""
    predicted = asked.set_index("request_id")["requested_at"]
    outcomes = pd.DataFrame(
        {
            "request_id": known["request_id"],
            "label": known["late"].astype("float64"),
            "arrived_at": known["known_at"],
            "predicted_at": known["request_id"].map(predicted),
        }
    )
    asked = asked.rename(columns={"requested_at": "at"})
    return Traffic(_table(asked), _table(outcomes))


def _table(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False).replace_schema_metadata(None)


def _group(name: str) -> Group:
    return Group.objects.get(name=name)


DESCRIPTIONS = {
    "flights_schedule": ("The timetable, known in advance.", None),
    "departures": ("Actual departures, known when the aircraft leaves.", timedelta(hours=18)),
    "arrivals": ("Actual arrivals, known when the aircraft lands.", timedelta(hours=18)),
    "weather": ("Hourly observations at the three airports, published when the hour is over.", timedelta(hours=12)),
    "planes": ("The aircraft register.", None),
    "requests": ("What the booking app asked.", timedelta(hours=18)),
    "outcomes": ("Whether the flight arrived late, known at its arrival.", timedelta(hours=24)),
}


def _sources(cast: Cast) -> dict[str, DataSource]:
    times = {"requests": "requested_at", "outcomes": "known_at"}
    return {
        name: features.define_source(
            name=name,
            description=description,
            uri=f"sources/{name}.parquet",
            event_timestamp=times.get(name, "event_at"),
            created_timestamp="created_at",
            freshness=promise,
            owner=_group(PLATFORM),
            actor=cast.pete,
            now=OPENED,
        )
        for name, (description, promise) in DESCRIPTIONS.items()
    }


VIEW_DESCRIPTIONS = {
    "plane": "Age and seats of the aircraft, for the five in six tail numbers that the register has.",
    "weather_origin": "The last published observation at the airport of departure.",
    "origin_delays": "How late the airport's departures left within the last two and six hours.",
    "carrier_origin": "How late the carrier's departures from this airport left within the last six hours.",
    "dest_delays": "How late flights to this destination landed within the last six hours.",
    "tail_last": "How late this aircraft's last flight landed, while that is less than a day ago.",
    "carrier_delays": "How late the carrier's flights landed within the last day and the last week.",
    "route_delays": "How late flights of this route landed within the last 30 days, and how many there were.",
    LEAK: "The carrier's late rate of the calendar day. Said to be known at midnight.",
}
VIEW_PROMISES = {"weather_origin": timedelta(hours=18), "origin_delays": timedelta(hours=24)}
"""How old the newest value may be: both are what the warning rests on."""


def _services(cast: Cast, sources: dict[str, DataSource], folder: str) -> tuple[FeatureService, FeatureService]:
    """The honest feature service, and the one with the view that was declared wrongly."""
    specs = (
        *views.feature_views(folder),
        views.carrier_day_leak(data.source("arrivals", folder), cadence=LEAK_CADENCE),
    )
    keys = sorted({spec.join_keys for spec in specs})
    entities = {
        key: features.define_entity(
            name="-".join(key), join_keys=list(key), description="", actor=cast.dana, now=OPENED
        )
        for key in keys
    }
    names: dict[str, list[str]] = {}
    for spec in specs:
        version = features.apply_view(
            name=spec.name,
            entity=entities[spec.join_keys],
            expression=spec.expression,
            sources=[sources[source.name] for source in spec.sources],
            features=list(spec.features),
            aggregations=spec.aggregations,
            event_timestamp=spec.event_timestamp,
            known_at=spec.known_at,
            ttl=spec.ttl,
            cadence=spec.cadence,
            lookback=spec.lookback,
            freshness=VIEW_PROMISES.get(spec.name),
            owner=_group(SCIENCE),
            description=VIEW_DESCRIPTIONS[spec.name],
            actor=cast.dana,
            now=OPENED,
        )
        features.publish(version, actor=cast.dana, reason="Reviewed with the platform team.", now=OPENED)
        names[spec.name] = [f"{spec.name}.{name}" for name in spec.features]
    honest = [name for view, listed in names.items() if view != LEAK for name in listed]
    return (
        _service(cast, "flights", honest),
        _service(cast, "flights-with-day-rate", [*honest, *names[LEAK]]),
    )


def _service(cast: Cast, name: str, listed: list[str]) -> FeatureService:
    return features.define_service(
        name=name,
        features=listed,
        request_features=list(REQUEST_FEATURES),
        owner=_group(SCIENCE),
        description="What is known one hour before departure.",
        actor=cast.dana,
        now=OPENED,
    )


def _pipelines(
    cast: Cast, registered_model: RegisteredModel, honest: FeatureService, leaking: FeatureService
) -> dict[str, TrainingPipeline]:
    """One pipeline per approach; only the boosted trees may be retrained by the system."""
    algorithms = {
        "logistic": honest,
        "hgb": honest,
        "slow": honest,
        "unfair": honest,
        "month_onehot": honest,
        "leaking": leaking,
    }
    return {
        name: registry.define_pipeline(
            registered_model=registered_model,
            name=name.replace("_", "-"),
            entry_point="mlops.demo.flights.train",
            code_path=str(CODE.relative_to(settings.BASE_DIR)),
            service=service,
            entity_frame="requests",
            outcomes="outcomes",
            label="late",
            parameters={"algorithm": "hgb" if name == "leaking" else name, "iterations": ITERATIONS, "threads": 2},
            windows=[{"name": "last-month", "days": 28}, {"name": "expanding", "start": FIRST_DAY.isoformat()}],
            holdout_days=14,
            time_limit=timedelta(minutes=5),
            automatic=name == "hgb",
            actor=cast.dana,
            now=OPENED,
        )
        for name, service in algorithms.items()
    }

"""A shop whose size comes from the feature store and whose amount comes with the request; real models answer.

The size of shop s1 was 1 from the first day on, and s3's was 3. Models are logistic regressions over both.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import skops.io
from django.conf import settings
from sklearn.linear_model import LogisticRegression

from features import actions as features
from features import online
from features.materialize import materialize
from features.models import FeatureService, FeatureViewVersion
from registry import artifacts
from registry.models import LoadClass, ModelVersion, RegisteredModel
from rollout import actions, gateway
from rollout.models import Endpoint, Rollout
from tests import builders
from tests.builders import NOON, ROBOT, group
from tests.rollout import life

ENDPOINT = life.ENDPOINT
HOUR = timedelta(hours=1)
TIME = pa.timestamp("us", "UTC")
FIRST = NOON - timedelta(days=10)
INPUTS = ("size", "amount")


@dataclass
class Shop:
    registered_model: RegisteredModel
    endpoint: Endpoint
    champion: ModelVersion
    view: FeatureViewVersion

    def asks(
        self,
        request_id: str,
        *,
        shop: str | None = "s3",
        amount: float = 0.5,
        at: datetime = NOON + HOUR,
        brought_up_to_date: bool = True,
    ) -> float:
        """One request through the gateway, after the store was brought up to date: the score."""
        if brought_up_to_date:
            materialize(self.view, now=at)
        row = {"request_id": [request_id], "tailnum": ["c1"], "shop": pa.array([shop], pa.string())}
        asked = pa.table({**row, "amount": [amount], "at": pa.array([at], TIME)})
        score: float = gateway.serve(ENDPOINT, asked, now=at, refresh=True).table["score"][0].as_py()
        return score

    def tamper(self, shop: str, size: float, *, at: datetime = NOON + HOUR) -> None:
        """Write another size into the online store, after it was brought up to date."""
        materialize(self.view, now=at)
        values = {"event_timestamp": [at], "known_at": [at], "size": [size]}
        online.write(self.view, pa.table({"shop": [shop], **values}))

    def candidate(self, **kwargs: Any) -> Rollout:
        """Another version in its first canary step, with all traffic."""
        rollout = life.proposed(a_version(self.registered_model, self.champion.service, **kwargs))
        actions.start(rollout, actor=ROBOT, reason="Its turn.", now=NOON)
        return rollout


def build(**kwargs: Any) -> Shop:
    """An endpoint with a champion that takes the size from the store and the amount from the request."""
    write_sizes()
    view, service = _features()
    model = builders.registered_model()
    endpoint = life.endpoint(model)
    champion = a_version(model, service, **kwargs)
    actions.start(life.proposed(champion), actor=ROBOT, reason="First.", now=NOON)
    return Shop(model, endpoint, champion, view)


def write_sizes(*corrections: tuple[str, float, datetime]) -> None:
    """The file of sizes. A correction is another size of a shop, known since the first day but arriving then."""
    rows = [(f"s{place}", float(place), FIRST, FIRST) for place in range(5)]
    rows += [(shop, size, FIRST, arrived) for shop, size, arrived in corrections]
    columns = list(zip(*rows, strict=True))
    folder = Path(settings.DATA_ROOT, "sources")
    folder.mkdir(parents=True, exist_ok=True)
    table = {
        "shop": columns[0],
        "size": columns[1],
        "at": pa.array(columns[2], TIME),
        "arrived": pa.array(columns[3], TIME),
    }
    pq.write_table(pa.table({name: _array(values) for name, values in table.items()}), folder / "shops.parquet")


def _array(values: Any) -> Any:
    return values if isinstance(values, pa.Array) else pa.array(list(values))


def _features() -> tuple[FeatureViewVersion, FeatureService]:
    common: dict[str, Any] = {"actor": ROBOT, "now": NOON}
    shops = features.define_source(
        name="shops",
        uri="sources/shops.parquet",
        event_timestamp="at",
        created_timestamp="arrived",
        owner=group("delay-platform"),
        **common,
    )
    view = features.apply_view(
        name="shop_facts",
        entity=features.define_entity(name="shop", join_keys=["shop"], **common),
        expression="SELECT shop, size, at, arrived FROM shops",
        sources=[shops],
        features=["size"],
        event_timestamp="at",
        known_at="arrived",
        owner=group("delay-science"),
        **common,
    )
    features.publish(view, reason="Reviewed.", **common)
    service = features.define_service(
        name="shop", features=["shop_facts.size"], request_features=["amount"], owner=group("delay-science"), **common
    )
    return view, service


def trained(columns: Sequence[str], *, seed: int = 0) -> bytes:
    """A fitted model over these columns; another seed saw other data."""
    random = np.random.default_rng(seed)
    frame = pd.DataFrame({name: random.normal(size=500) for name in columns})
    label = random.random(500) < 1 / (1 + np.exp(-frame.sum(axis=1)))
    return bytes(skops.io.dumps(LogisticRegression().fit(frame, label)))


def a_version(
    model: RegisteredModel,
    service: FeatureService | None,
    *,
    seed: int = 0,
    environment: dict[str, Any] | None = None,
    load_class: str = LoadClass.SKOPS,
) -> ModelVersion:
    """The next version."""
    columns = service.vector if service else INPUTS
    stored = artifacts.store(io.BytesIO(trained(columns, seed=seed)))
    number = model.versions.count() + 1
    return ModelVersion.objects.create(
        registered_model=model,
        number=number,
        artifact_digest=stored.digest,
        artifact_name="model.skops",
        artifact_bytes=stored.bytes,
        load_class=load_class,
        signature={"inputs": [{"name": name, "type": "double"} for name in columns]},
        service=service,
        environment=environment or {},
        registered_at=NOON,
        content_digest=f"content-{number}",
    )

"""From the sources over views and services to the models and the decision points they serve, as a drawing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.urls import reverse

from features.models import DataSource, FeatureService, FeatureServiceFeature, FeatureViewVersion
from mlops.drawing import Box, Drawing, draw
from mlops.usage import Use, Uses
from rollout.models import Endpoint


def lineage(
    versions: Sequence[FeatureViewVersion],
    services: Iterable[FeatureService],
    uses: Uses,
    *,
    here: DataSource | FeatureViewVersion | FeatureService,
) -> Drawing:
    """The drawing of these view versions (with their sources prefetched) and services, and who uses them now.

    ``here`` is the thing whose page it stands on.
    """
    ordered = sorted(services, key=lambda service: (not uses.get(service.pk), str(service)))
    sources = {source.pk: source for version in versions for source in version.sources.all()}
    used = [(service, use) for service in ordered for use in uses.get(service.pk, ())]
    pins = FeatureServiceFeature.objects.filter(view_version__in=[each.pk for each in versions], service__in=ordered)
    arrows = [(_key(source), _key(version)) for version in versions for source in version.sources.all()]
    arrows += [(f"v{version}", f"s{service}") for version, service in _pairs(pins)]
    arrows += [(_key(service), _model_key(use)) for service, use in used]
    arrows += [(_model_key(use), f"e{each.pk}") for _, use in used if use.is_visible for each in use.endpoints]
    columns = [
        ("Sources", [_source_box(each, here) for each in sorted(sources.values(), key=str)]),
        ("Feature views", [_version_box(each, here) for each in sorted(versions, key=_by_source)]),
        ("Feature services", [_service_box(each, here) for each in ordered]),
        ("Models", _once(_model_box(use) for _, use in used)),
        ("Endpoints", _once(_endpoint_box(each, use) for _, use in used if use.is_visible for each in use.endpoints)),
    ]
    return draw(columns, arrows)


def _by_source(version: FeatureViewVersion) -> tuple[list[str], str, int]:
    """Beside what it reads, so that few arrows cross; newest version first."""
    return sorted(source.name for source in version.sources.all()), version.view.name, -version.number


def _pairs(pins: Iterable[FeatureServiceFeature]) -> list[tuple[int, int]]:
    return sorted({(pin.view_version_id, pin.service_id) for pin in pins})


def _once(boxes: Iterable[Box]) -> list[Box]:
    return list({box.key: box for box in boxes}.values())


def _key(row: DataSource | FeatureViewVersion | FeatureService) -> str:
    kinds = {DataSource: "d", FeatureViewVersion: "v", FeatureService: "s"}
    return f"{kinds[type(row)]}{row.pk}"


def _model_key(use: Use) -> str:
    return f"m{use.version.pk}"


def _source_box(source: DataSource, here: object) -> Box:
    url = reverse("portal:data-source", args=[source.name])
    return Box(_key(source), source.name, url, source.description, is_here=source == here)


def _version_box(version: FeatureViewVersion, here: object) -> Box:
    url = reverse("portal:feature-view-version", args=[version.view.name, version.number])
    note = f"{version.state}, {len(version.features)} feature{'s' if len(version.features) != 1 else ''}"
    return Box(_key(version), str(version), url, note, is_here=version == here)


def _service_box(service: FeatureService, here: object) -> Box:
    url = reverse("portal:feature-service", args=[service.name, service.number])
    note = "retired" if service.retired_at else service.description
    return Box(_key(service), str(service), url, note, is_here=service == here)


def _model_box(use: Use) -> Box:
    name, number = use.version.registered_model.name, use.version.number
    url = reverse("portal:version", args=[name, number]) if use.is_visible else ""
    return Box(_model_key(use), use.label, url, use.role)


def _endpoint_box(endpoint: Endpoint, use: Use) -> Box:
    """A decision point; its page is the model's."""
    url = reverse("portal:model", args=[use.version.registered_model.name])
    return Box(f"e{endpoint.pk}", endpoint.name, url, endpoint.title)

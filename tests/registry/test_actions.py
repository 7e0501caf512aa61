import pickle
from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction

from audit.errors import AlreadyExists, Conflict, InvalidInput, NotPermitted, TransitionError
from audit.models import Event
from registry import actions
from registry.models import Duty, LoadClass, ModelVersion, RegisteredModel, RunState, TrainingRun
from tests.builders import NOON, ROBOT, alice, audrey, charlie, group, paula, person, pete, registered_model
from tests.features.races import run_together
from tests.registry import world

pytestmark = pytest.mark.django_db


def founded(**changes: Any) -> RegisteredModel:
    values: dict[str, Any] = {
        "name": "late-arrival",
        "title": "Late arrival",
        "description": "",
        "tier": "standard",
        "data_science": group("delay-science"),
        "platform": group("delay-platform"),
        "product": group("delay-product"),
        "actor": alice(),
        "now": NOON,
        **changes,
    }
    return actions.create_model(**values)


# ---------------------------------------------------------------------- models and pipelines


def test_create_model__by_a_future_owner__is_recorded_with_its_owners() -> None:
    model = founded()
    event = Event.objects.get(name="registered_model.created")
    assert event.actor == alice()
    assert event.data["platform"] == "delay-platform"
    assert model.owner(Duty.PRODUCT) == group("delay-product")


def test_create_model__by_an_administrator__is_possible() -> None:
    assert founded(actor=person("root", is_superuser=True)).pk


@pytest.mark.parametrize("who", [charlie, audrey, paula])
def test_create_model__by_anybody_else__is_refused(who: Any) -> None:
    with pytest.raises(NotPermitted, match="delay-science"):
        founded(actor=who())


def test_create_model__bad_fields__are_named() -> None:
    with pytest.raises(InvalidInput) as refusal:
        founded(name="Late Arrival", tier="cheap")
    assert set(refusal.value.errors) == {"name", "tier"}


def test_create_model__twice__is_refused() -> None:
    founded()
    with pytest.raises(AlreadyExists, match="late-arrival"):
        founded()


def test_create_model__one_group_with_all_duties__is_refused_for_nobody_could_confirm_a_policy() -> None:
    with pytest.raises(InvalidInput, match="another group than delay-science"):
        founded(platform=group("delay-science"), product=group("delay-science"))
    assert founded(product=group("delay-science")).pk


def test_change_model__duty_handed_on_to_the_only_other_group__is_refused() -> None:
    model = founded(product=group("delay-science"))
    said: dict[str, Any] = {"description": "", "tier": "standard", "reason": "Fewer of us.", "actor": ROBOT}
    owners: dict[str, Any] = {"data_science": model.data_science, "product": model.product}
    with pytest.raises(InvalidInput, match="nobody could confirm"):
        actions.change_model(model, title="T", platform=group("delay-science"), now=NOON, **said, **owners)
    model.refresh_from_db()
    assert model.platform == group("delay-platform")


def test_change_model__words_of_a_model_that_one_group_has__is_possible() -> None:
    ours = group("delay-science")
    model = registered_model("old", platform=ours, product=ours)
    owners: dict[str, Any] = {"data_science": ours, "platform": ours, "product": ours, "tier": "standard"}
    actions.change_model(model, title="New", description="", reason="Clearer.", actor=alice(), now=NOON, **owners)
    assert RegisteredModel.objects.get(pk=model.pk).title == "New"


def test_define_pipeline__bad_fields__are_named() -> None:
    with pytest.raises(InvalidInput) as refusal:
        world.pipeline(entry_point="os; rm", code_path="../..", windows=[{"name": "x"}], time_limit=timedelta(0))
    assert set(refusal.value.errors) == {"entry_point", "code_path", "windows", "time_limit"}


def test_define_pipeline__twice__is_refused() -> None:
    service = world.service()
    world.pipeline(service=service)
    with pytest.raises(AlreadyExists, match="toy"):
        world.pipeline(service=service)


def test_define_pipeline__without_the_duty__is_refused() -> None:
    with pytest.raises(NotPermitted):
        world.pipeline(actor=paula())


# ---------------------------------------------------------------------- training runs


def test_request_training__free_model__is_requested_with_merged_parameters() -> None:
    pipeline = world.pipeline(parameters={"depth": 3, "rate": 0.1})
    run = world.requested(pipeline, parameters={"depth": 5, "seed": 11}, actor=alice())
    assert (run.state, run.parameters, run.seed) == (RunState.REQUESTED, {"depth": 5, "rate": 0.1}, 11)
    assert Event.objects.get(name="training_run.requested").actor == alice()


def test_request_training__while_one_is_open__is_a_conflict_that_names_it() -> None:
    pipeline = world.pipeline()
    first = world.requested(pipeline)
    with pytest.raises(Conflict, match=f"run {first.pk}"):
        world.requested(pipeline)
    assert Event.objects.filter(name="training_run.requested").count() == 1


def test_request_training__after_the_first_ended__is_possible() -> None:
    pipeline = world.pipeline()
    actions.cancel_training(world.requested(pipeline), actor=alice(), reason="typo", now=NOON)
    assert world.requested(pipeline).state == RunState.REQUESTED


@pytest.mark.parametrize("changes", [{"window": {"name": "x"}}, {"parameters": {"seed": -1}}])
def test_request_training__bad_input__is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        world.requested(**changes)


def test_request_training__without_the_duty__is_refused() -> None:
    pipeline = world.pipeline()
    for who in (paula(), pete(), charlie(), audrey()):
        with pytest.raises(NotPermitted):
            world.requested(pipeline, actor=who)


def test_cancel_training__ended_run__is_refused() -> None:
    run = world.requested()
    actions.cancel_training(run, actor=pete(), reason="cluster is full", now=NOON)
    with pytest.raises(TransitionError):
        actions.cancel_training(run, actor=pete(), reason="again", now=NOON)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite writes one at a time")
def test_request_training__eight_at_once__give_one_run() -> None:
    pipeline = world.pipeline()
    refused = []

    def ask() -> None:
        try:
            world.requested(pipeline)
        except Conflict as conflict:
            refused.append(conflict)

    run_together([ask] * 8)
    assert TrainingRun.objects.count() == 1
    assert len(refused) == 7
    assert Event.objects.filter(name="training_run.requested").count() == 1


# ---------------------------------------------------------------------- versions


def test_register_version__first__is_number_one_with_an_event() -> None:
    version = world.version(note="first try", actor=alice())
    assert (version.number, version.load_class, version.registered_by) == (1, LoadClass.SKOPS, alice())
    event = Event.objects.get(name="model_version.registered")
    assert event.registered_model == "late-arrival"
    assert event.data["artifact"] == version.artifact_digest


def test_register_version__same_content__is_the_same_version_and_no_second_event() -> None:
    first = world.version(metrics={"auc": 0.7})
    again = world.version(metrics={"auc": 0.8}, note="again")
    assert again == first
    assert again.metrics == {"auc": 0.7}
    assert Event.objects.filter(name="model_version.registered").count() == 1


@pytest.mark.parametrize(
    "changes", [{"content": world.model_bytes() + b" "}, {"commit": "c"}, {"parameters": {"a": 1}}]
)
def test_register_version__other_content__is_the_next_number(changes: dict[str, Any]) -> None:
    world.version()
    assert world.version(**changes).number == 2


@pytest.mark.parametrize("content", [pickle.dumps([1]), b"onnx?", world.skops_bytes({"not": "a model"})[:-30]])
def test_register_version__what_can_not_be_loaded_safely__is_quarantined_with_the_reason(content: bytes) -> None:
    version = world.version(content=content)
    assert version.load_class == LoadClass.QUARANTINED
    assert not version.is_scorable
    assert Event.objects.get(name="model_version.registered").data["quarantined_because"]


def test_register_version__empty_file__is_refused() -> None:
    with pytest.raises(InvalidInput, match="artifact"):
        actions.register_version(
            registered_model=registered_model(),
            artifact=world.artifact_file(b""),
            artifact_name="m",
            actor=ROBOT,
            now=NOON,
        )


def test_register_version__run_of_another_model__is_refused() -> None:
    run = world.requested(world.pipeline(registered_model("other")))
    with pytest.raises(InvalidInput, match="other"):
        world.version(training_run=run)


def test_register_version__second_version_of_a_run__is_refused() -> None:
    run = world.requested()
    world.version(training_run=run)
    with pytest.raises(Conflict, match="a run makes one"):
        world.version(training_run=run, label="changed")


def test_register_version__path_out_of_the_version__is_refused() -> None:
    with pytest.raises(InvalidInput) as refusal:
        world.version(artifact_name="../../etc/model.skops")
    assert set(refusal.value.errors) == {"artifact"}


def test_register_version__without_the_duty__is_refused() -> None:
    with pytest.raises(NotPermitted):
        world.version(actor=pete())


def test_model_version__changed_behind_our_back__is_refused_by_the_database() -> None:
    version = world.version()
    with pytest.raises(IntegrityError, match="append-only"), transaction.atomic():
        ModelVersion.objects.filter(pk=version.pk).update(artifact_digest="0" * 64)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite writes one at a time")
def test_register_version__eight_at_once__get_eight_numbers() -> None:
    model, path = registered_model(), world.artifact_file(world.model_bytes())

    def register(commit: str) -> None:
        actions.register_version(
            registered_model=model, artifact=path, artifact_name="m", commit=commit, actor=ROBOT, now=NOON
        )

    run_together([lambda commit=str(i): register(commit) for i in range(8)])  # type: ignore[misc]  # bound per turn
    assert sorted(ModelVersion.objects.values_list("number", flat=True)) == list(range(1, 9))


def test_crown__version_that_was_not_promoted__is_refused_by_the_database() -> None:
    with pytest.raises(IntegrityError, match="promoted"), transaction.atomic():
        actions.crown(world.version(), actor=ROBOT, reason="a short cut", now=NOON)
    assert registered_model().champion() is None
    assert not Event.objects.filter(name="alias.champion_moved").exists()


def test_crown__by_a_stranger__is_refused() -> None:
    with pytest.raises(NotPermitted):
        actions.crown(world.version(), actor=charlie(), reason="mine", now=NOON)

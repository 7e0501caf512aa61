import pytest

from audit.errors import NotPermitted
from registry.duties import has_duty, require
from registry.models import AUDITORS, Duty
from tests.builders import ROBOT, alice, audrey, charlie, paula, person, registered_model

pytestmark = pytest.mark.django_db


def test_require__member_of_the_owning_group__passes() -> None:
    require(alice(), registered_model(), Duty.DATA_SCIENCE)


def test_require__another_duty__is_refused_naming_who_could() -> None:
    with pytest.raises(NotPermitted, match="delay-product") as refusal:
        require(alice(), registered_model(), Duty.PRODUCT)
    assert "alice" in str(refusal.value)


def test_require__one_of_several_duties__is_enough() -> None:
    require(paula(), registered_model(), Duty.DATA_SCIENCE, Duty.PRODUCT)


def test_require__gatehouse_itself__passes() -> None:
    require(ROBOT, registered_model(), Duty.PLATFORM)


def test_has_duty__superuser_outside_the_groups__has_none() -> None:
    assert not has_duty(person("root", is_superuser=True), registered_model(), *Duty)


def test_has_duty__stranger_auditor_and_inactive__have_none() -> None:
    gone = person("gone", "delay-science", is_active=False)
    both = person("both", "delay-science", AUDITORS)
    assert not any(has_duty(user, registered_model(), *Duty) for user in (charlie(), audrey(), gone, both))

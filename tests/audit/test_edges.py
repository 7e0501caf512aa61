"""A refusal in a browser: a message on the page one came from, or a page that explains."""

import pytest
from django.contrib.messages import get_messages
from django.test import Client

from tests.builders import pete

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.audit.urls")]

HERE = "http://testserver/admin/"


@pytest.fixture
def browser(client: Client) -> Client:
    client.force_login(pete())
    return client


def test_refusal__of_a_post_that_came_too_late__is_a_message_on_the_page_before(browser: Client) -> None:
    response = browser.post("/refuse/TransitionError/", headers={"referer": HERE})

    assert (response.status_code, response["Location"]) == (302, HERE)
    said = [str(message) for message in get_messages(response.wsgi_request)]
    assert said == ["The state does not allow this: Only <delay-product> decides."]


@pytest.mark.parametrize("referer", ["https://evil.example/", "//evil.example", "javascript:alert(1)", ""])
def test_refusal__of_a_post_sent_from_elsewhere__is_a_page_not_a_redirect(browser: Client, referer: str) -> None:
    response = browser.post("/refuse/TransitionError/", headers={"referer": referer})

    assert response.status_code == 409


@pytest.mark.parametrize("method", ["get", "post"])
@pytest.mark.parametrize(("kind", "status"), [("NotPermitted", 403), ("NotFound", 404), ("Unavailable", 503)])
def test_refusal__on_a_page__explains_itself_with_its_status(
    browser: Client, method: str, kind: str, status: int
) -> None:
    response = getattr(browser, method)(f"/refuse/{kind}/", headers={"referer": HERE})

    assert response.status_code == status
    assert b"Only &lt;delay-product&gt; decides." in response.content


def test_refusal__of_somebody_not_signed_in__explains_itself_too(client: Client) -> None:
    assert client.get("/refuse/NotPermitted/").status_code == 403


def test_defect__is_not_taken_for_a_refusal(browser: Client) -> None:
    with pytest.raises(ZeroDivisionError):
        browser.get("/break/")

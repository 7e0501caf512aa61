"""The project's settings with the probe installed: what a worker under test runs with."""

from mlops.settings import *  # noqa: F403
from mlops.settings import INSTALLED_APPS as PROJECT

INSTALLED_APPS = [*PROJECT, "tests.jobs.probe"]

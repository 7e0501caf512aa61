"""Model code is software: lint it, test it, measure what the tests cover, the same on a laptop and in CI.

``project`` says what a code folder declares, ``runner`` runs the tools in it, ``reports`` reads what they wrote, and
``revision`` says which code and commit that was. Nothing here asks the portal; ``gatehouse ci`` submits.
"""

from gatehouse.ci.project import KINDS, Project, ProjectError
from gatehouse.ci.reports import Result
from gatehouse.ci.revision import Revision, revision_of
from gatehouse.ci.runner import Bench, run

__all__ = ["KINDS", "Bench", "Project", "ProjectError", "Result", "Revision", "revision_of", "run"]

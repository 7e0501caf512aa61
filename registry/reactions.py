"""What the registry does by itself when something happened (``mlops.reactions`` says which event calls what)."""

from __future__ import annotations

from audit.models import Event
from jobs.run import enqueue
from registry.models import TrainingRun


def start_training(event: Event) -> None:
    """A training run was requested: ask for the work, once."""
    ask_for_training(int(event.subject_id))


def ask_for_training(run_id: int) -> None:
    """Put the run's one job into the queue; asking again changes nothing."""
    if TrainingRun.objects.filter(pk=run_id).exists():
        enqueue("registry.train", key=job_key(run_id), payload={"run": run_id})


def job_key(run_id: int) -> str:
    """The key of the job that carries out a training run."""
    return f"train:{run_id}"


def convert(event: Event) -> None:
    """A version was registered: ask for its conversion to ONNX, once."""
    enqueue("registry.convert", key=f"convert:{event.subject_id}", payload={"version": int(event.subject_id)})

"""The tasks that an experiment can train. A new task is one module here and an entry in TASKS."""

from collections.abc import Mapping
from typing import Any

from .classification import Classification
from .generation import Generation
from .task import MonitoredFigure, Task, TaskName, TrainingRound

__all__ = [
    "CLASSIFICATION",
    "GENERATION",
    "TASKS",
    "MonitoredFigure",
    "Task",
    "TaskName",
    "TrainingRound",
    "task_of",
]

CLASSIFICATION, GENERATION = Classification(), Generation()
TASKS: dict[str, Task] = {task.name: task for task in (CLASSIFICATION, GENERATION)}


def task_of(experiment: Mapping[str, Any]) -> Task:
    """The task of a summary's experiment; if it names none, it trained a classifier."""
    return TASKS.get(str(experiment.get("task")), CLASSIFICATION)

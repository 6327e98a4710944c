"""Named starting points: what a policy, a task and an augmentation change in the defaults."""

from deft.recipes.augments import AUGMENTS, augment
from deft.recipes.tasks import TASKS, tree

__all__ = ["AUGMENTS", "TASKS", "augment", "tree"]

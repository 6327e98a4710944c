"""Named starting points: what a policy, a task and an augmentation change in the defaults."""

from deft.recipes import jaxrl
from deft.recipes.augments import AUGMENTS, augment
from deft.recipes.tasks import COMPAT, TASKS, tree

__all__ = ["AUGMENTS", "COMPAT", "TASKS", "augment", "jaxrl", "tree"]

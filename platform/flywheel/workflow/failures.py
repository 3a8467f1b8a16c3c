"""What failed on the cluster, in the sentence that our own code there said, or Ray's last line."""

from __future__ import annotations

import re

from flywheel import errors
from flywheel.errors import FlywheelError

_OURS = re.compile(r"^flywheel\.errors\.(\w+): (.+)$", re.MULTILINE)


def is_of_ray(error: BaseException) -> bool:
    """Whether Ray raised it: a task, an actor, a dataset or a node failed."""
    return any(kind.__module__.split(".")[0] == "ray" for kind in type(error).__mro__)


def explained(error: BaseException) -> FlywheelError:
    """The error as one of ours.

    Ray carries a worker's exception over as text, one traceback below the other; the last of ours says it best.
    """
    if said := _OURS.findall(str(error)):
        name, text = said[-1]
        kind = getattr(errors, name, FlywheelError)
        try:
            return kind(text)
        except TypeError:  # a class that is made of more than one sentence
            return FlywheelError(text)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    last = lines[-1].rstrip(".") if lines else type(error).__name__
    return FlywheelError(
        f"Work on the cluster failed: {last}. Look into Ray's logs (`ray logs`), then run the same command: "
        "what is finished is kept."
    )

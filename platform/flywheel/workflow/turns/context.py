"""What every step of a turn works with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import flywheel
from flywheel.capture.consent import consented_ids
from flywheel.config import FlywheelConfig
from flywheel.lake.keys import Keyring
from flywheel.lake.tables import Lake
from flywheel.records import Consent, Inference, Purpose, utcnow
from flywheel.workflow.turns.steps import TurnHandle


@dataclass(frozen=True)
class Context:
    """One turn's surroundings. ``work`` is a local folder for what is too large for an artifact."""

    lake: Lake
    config: FlywheelConfig
    keyring: Keyring
    turn: TurnHandle
    work: Path

    @property
    def code_version(self) -> str:
        """Goes into every manifest."""
        return flywheel.__version__

    def consented(self, inferences: list[Inference], purpose: Purpose) -> set[str]:
        """Ids that may be used for ``purpose`` now, by the consents as they stand now."""
        return consented_ids(
            inferences, self.lake.records("consents", Consent, flow=self.config.flow), purpose, utcnow()
        )

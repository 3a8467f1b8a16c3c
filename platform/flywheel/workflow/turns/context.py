"""What every step of a turn works with."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import flywheel
from flywheel.capture.consent import consented_ids, heard
from flywheel.config import FlywheelConfig
from flywheel.lake.keys import Keyring
from flywheel.lake.tables import Lake
from flywheel.records import Consent, Feedback, Inference, Purpose, utcnow
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
        return consented_ids(inferences, self._consents(), purpose, utcnow())

    def heard(self, feedback: list[Feedback], inferences: list[Inference], purpose: Purpose) -> list[Feedback]:
        """Reactions that may be used for ``purpose`` now where their inferences may; see ``capture.consent.heard``."""
        return heard(feedback, inferences, self._consents(), purpose, utcnow())

    def _consents(self) -> list[Consent]:
        return self.lake.records("consents", Consent, flow=self.config.flow)

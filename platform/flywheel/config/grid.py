"""What an evaluation sweep runs: models x parameters x suites. One YAML file holds one ``EvaluationGrid``."""

from __future__ import annotations

from pydantic import Field

from flywheel.config.base import Config


class ParameterGrid(Config):
    """Every combination is tried; at temperature 0 seeds make no difference and one of them is."""

    temperature: list[float] = Field(default_factory=lambda: [0.0], min_length=1, description="0 is greedy")
    max_tokens: list[int] = Field(default_factory=list[int], description="longest answers; none: evaluation.max_tokens")
    system: list[str] = Field(
        default_factory=lambda: [""], min_length=1, description="system prompts in place of the cases' own; '': theirs"
    )
    seed: list[int] = Field(default_factory=lambda: [0], min_length=1, description="of what is drawn above 0")


class EndpointConfig(Config):
    """An OpenAI-compatible service outside the cluster. Cases made of traffic go there only with `third_party`."""

    url: str = Field(pattern=r"^https?://", description="its base, with the version: https://host/v1")
    key_env: str = Field(default="FLYWHEEL_ENDPOINT_KEY", description="environment variable that holds its key, if any")


class EvaluationGrid(Config):
    """One sweep. The first model with the first parameters is what all others are compared with."""

    models: list[str] = Field(min_length=1, description="versions, folders, 'live', or endpoint:NAME")
    suites: list[str] = Field(min_length=1)
    params: ParameterGrid = Field(default_factory=ParameterGrid)
    endpoint: EndpointConfig | None = Field(default=None, description="what answers for endpoint:NAME")

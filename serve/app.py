"""What the Serve configs name. Each builder takes ``{"config": FILE}`` (or the variable FLYWHEEL_CONFIG)."""

from flywheel.gateway.apps import capture, controller, gateway

__all__ = ["capture", "controller", "gateway"]

"""A self-hosted coding agent as a service, with a human in the loop."""

AGENT_SERVICE_PACKAGE = "agent_service"
__version__ = "0.1.0"

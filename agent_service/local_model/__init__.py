"""The embedded model: a small one that runs on this machine without any key.

For demonstrations and small chores; it is the last choice, after everything the user configured or runs.
"""

from agent_service.local_model.provider import embedded_provider

__all__ = ["embedded_provider"]

"""What survives a restart: threads, runs, questions, effects, and the graph's checkpoints.

Does not know: what a message means, what a tool does, HTTP.
"""

AGENT_SERVICE_PACKAGE = "checkpoints"

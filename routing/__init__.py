"""One chat request in, one good answer out.

Does not know: agents, threads, tools, the environment, the file system.
"""

AGENT_SERVICE_PACKAGE = "routing"

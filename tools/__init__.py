"""What an agent may do in a workspace.

Does not know: graphs, models, HTTP, databases. A tool with an effect on files only *plans* it;
whoever runs the tool decides when (and whether) the planned effect is committed.
"""

AGENT_SERVICE_PACKAGE = "tools"

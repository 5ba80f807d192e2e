"""The `agent-service` command: speaks HTTP to a service, a running one or its own, and words to people.

Knows nothing of graphs. What must work while no service can start opens the database itself: `doctor`,
`threads list` and `providers remove --unreadable`. Everything heavy is imported inside the commands, so that
`--help` and `--version` answer at once.
"""

from __future__ import annotations

import io
import sys

from agent_service.cli.fault import fault_of
from agent_service.cli.wording import laid_out


def app() -> None:
    """Run the command line and exit.

    0 done, 1 failed, 2 usage or configuration, 3 waits for a human, 130 cancelled.
    """
    from agent_service.cli.commands import cli

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without a character shows ?, and the run goes on.
            stream.reconfigure(errors="replace")
    try:
        cli(prog_name="agent-service")
    except Exception as error:
        fault = fault_of(error)
        if fault is None:
            raise
        for line in laid_out(str(fault)):
            sys.stderr.write(f"{line}\n" if line.startswith("  ") else f"agent-service: {line}\n")
        raise SystemExit(fault.exit_code) from None

"""The `agent-service` command: makes sure that it runs its own code, then runs it."""

from __future__ import annotations

from pathlib import Path

from agent_service.shadow import explain, find_shadows


def main() -> None:
    """Run the command line. Exits with a sentence when other packages stand in the way of ours."""
    if shadows := find_shadows(beside=Path(__file__).resolve().parent.parent):
        raise SystemExit("\n".join(explain(shadow, Path.cwd()) for shadow in shadows))
    from agent_service.cli import app

    app()


if __name__ == "__main__":
    main()

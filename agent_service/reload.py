"""A running service kept in step with its configuration file."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from agent_service.config_file import ConfigError
from agent_service.keys.directory import ProviderAccounts
from agent_service.ledger.ledger import Ledger
from agent_service.model_pool import ModelPool
from agent_service.settings import Settings
from agent_service.watch import watch_file
from checkpoints.errors import DatabaseUnusable

logger = logging.getLogger(__name__)

FIRST_PAUSE = 1.0
"""Seconds after which it is tried again what the database stood in the way of; each further pause doubles."""
LONGEST_PAUSE = 30.0
LIVE = frozenset({"providers", "models", "model_groups", "fallbacks", "router", "budgets", "cache"})
"""Sections whose changes are applied without a restart."""
_TOPIC = "configuration"


class Reload:
    """Applies what changes in the configuration file."""

    def __init__(
        self,
        read: Callable[[], Settings],
        begun: Settings,
        models: ModelPool,
        accounts: ProviderAccounts,
        ledger: Ledger,
    ) -> None:
        """`read` gives the settings as they are now, or raises ConfigError; `begun` are the first ones."""
        self._read, self._begun = read, begun
        self._models, self._accounts, self._ledger = models, accounts, ledger

    async def follow(self, path: Path) -> None:
        """Apply every change of the file, for ever."""
        await watch_file(path, self._changed)

    async def _changed(self) -> None:
        """Take the file over as it is now; keep what was, and say why, while that cannot be done."""
        pause = FIRST_PAUSE
        while True:
            try:
                await self._apply()
            except ConfigError as error:
                logger.error("the changed configuration is not used: %s", error)
                self._models.report(_TOPIC, f"The changed configuration is not used: {error}")
                return
            except (SQLAlchemyError, DatabaseUnusable) as error:
                logger.error("the changed configuration is not used yet: %s", error)
                self._models.report(
                    _TOPIC,
                    "The changed configuration is not used yet: the stored accounts cannot be read from the "
                    "database. It is tried again by itself; the log has the details.",
                )
            except Exception as error:
                logger.exception("the changed configuration is not used")
                fault = f"by a fault of this program ({type(error).__name__})"
                self._models.report(
                    _TOPIC,
                    f"The changed configuration is not used, {fault}: restart the service with it; the log "
                    "has the details.",
                )
                return
            else:
                self._models.report(_TOPIC, None)
                return
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    async def _apply(self) -> None:
        settings = await asyncio.to_thread(self._read)
        await self._accounts.reconfigure(settings)
        self._ledger.budgets.settings = settings.budgets
        self._ledger.answers.settings = settings.cache
        logger.info("providers, models, budgets and the cache are now as the configuration says")
        if waiting := [
            name for name, section in settings if name not in LIVE and self._differs(name, section)
        ]:
            logger.warning("changes under %s are used from the next start on", ", ".join(waiting))

    def _differs(self, name: str, section: object) -> bool:
        return bool(getattr(self._begun, name) != section)

"""The store as the engine sees it: everything in Redis, opened and closed together."""

from __future__ import annotations

from service.config.settings import Settings
from service.store.account import Account
from service.store.amendments import Amendments
from service.store.connection.client import Client
from service.store.connection.clock import Clock
from service.store.connection.scripts import Scripts
from service.store.credentials import Credentials
from service.store.forks import Forks
from service.store.health import Health
from service.store.images import Images
from service.store.inventory import Inventory
from service.store.keys import Keys
from service.store.leases import Leases
from service.store.ledger import Ledger
from service.store.log import Log
from service.store.pacing import Pacing
from service.store.send_admission import SendAdmission
from service.store.sessions import Sessions
from service.store.titles import Titles
from service.store.turns import Turns
from service.store.versions import Versions
from service.store.webhooks import WebhookQueue
from service.store.windows import Windows


class Store:
    def __init__(self, settings: Settings, worker: str) -> None:
        self.settings = settings
        self.client = Client(settings)
        self.health = Health(self.client)
        self.keys = Keys(settings.redis_key_prefix)
        self.scripts = Scripts(self.client)
        self.account = Account(self.client, self.scripts, self.keys, settings)
        self.sessions = Sessions(self.client, self.scripts, self.keys, settings, self.account)
        self.inventory = Inventory(self.client, self.keys, self.account)
        self.versions = Versions(self.scripts, self.keys, settings)
        self.images = Images(self.keys, settings)
        self.forks = Forks(self.client, self.scripts, self.keys, settings, self.images)
        self.amendments = Amendments(self.client, self.scripts, self.keys, settings)
        self.clock = Clock(self.client)
        self.turns = Turns(self.client, self.scripts, self.keys, settings, self.clock)
        self.titles = Titles(self.scripts, self.keys)
        self.leases = Leases(self.client, self.scripts, self.keys, settings, worker)
        self.credentials = Credentials(self.client, self.scripts, self.keys)
        self.webhooks = WebhookQueue(self.scripts, self.keys)
        self.windows = Windows(self.client, self.scripts, self.keys)
        self.ledger = Ledger(self.client, self.scripts, self.keys, settings, self.account)
        self.send_admission = SendAdmission(
            self.client,
            self.scripts,
            self.keys,
            self.sessions,
            self.windows,
            self.leases,
            self.ledger,
            self.turns,
            worker,
        )
        self.pacing = Pacing(self.client, self.scripts, self.keys, settings, worker)
        self.log = Log(self.client, self.scripts, self.keys, self.turns.lease_ms)

    async def memory(self) -> tuple[int, int]:
        """Bytes used, and the bound or 0; of the fullest node. Raises StoreUnavailable."""
        return await self.client.memory()

    async def close(self) -> None:
        await self.images.close()
        await self.client.close()

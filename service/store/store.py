"""The store as the engine sees it: everything in Redis, made and closed together.

Each part is made with those below it. What a part does stands in its module; rules of chats are the engine's.
"""

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
from service.store.part import Shared
from service.store.principals import Principals
from service.store.send_admission import SendAdmission
from service.store.sessions import Sessions
from service.store.turn_ends import TurnEnds
from service.store.turns import Turns
from service.store.versions import Versions
from service.store.webhooks import WebhookQueue
from service.store.windows import Windows


class Store:
    def __init__(self, settings: Settings, worker: str) -> None:
        self.settings = settings
        self.worker = worker  # the name under which this process holds leases
        self.client = client = Client(settings)
        self.keys = Keys(settings.redis_key_prefix)
        shared = Shared(settings, client, Scripts(client), self.keys, worker)
        self.scripts = shared.scripts
        self.health = Health(client)
        self.clock = Clock(client)
        self.account = Account(shared)
        self.sessions = Sessions(shared, self.account)
        self.inventory = Inventory(shared, self.account)
        self.versions = Versions(shared)
        self.images = Images(shared)
        self.forks = Forks(shared, self.images)
        self.amendments = Amendments(shared)
        self.leases = Leases(shared)
        self.turns = Turns(shared, self.clock, self.leases)
        self.credentials = Credentials(shared)
        self.principals = Principals(shared)
        self.webhooks = WebhookQueue(shared)
        self.windows = Windows(shared)
        self.ledger = Ledger(shared, self.account, self.leases)
        self.turn_ends = TurnEnds(shared, self.turns, self.leases, self.ledger)
        self.send_admission = SendAdmission(
            shared, self.sessions, self.windows, self.leases, self.ledger, self.turns
        )
        self.pacing = Pacing(shared)
        self.log = Log(shared)

    async def close(self) -> None:
        await self.images.close()
        await self.client.close()

"""What Prometheus is told of the lease."""

from datetime import timedelta

from server.app.metrics.prometheus import ServiceCollector
from server.app.wiring import Services
from server.services.launch.lease import CONTROLLER
from server.services.runtime.async_store import AsyncStore
from server.services.runtime.service_time import ServiceClock
from server.services.webhooks.dispatcher import WebhookDispatcher
from server.settings import Settings
from server.store.sql_store import SqlStore
from tests.services.support import ManualClock


def samples(collector: ServiceCollector) -> tuple[float, float]:
    """Return whether the lease is held, and how often it was taken over."""
    found = {sample.name: sample.value for family in collector.collect() for sample in family.samples}
    return found["bandit_controller_lease_held"], found["bandit_controller_takeovers_total"]


def fail() -> None:
    """Fail: the store is sound."""
    raise AssertionError


async def test_the_lease_is_shown(store: SqlStore, async_store: AsyncStore, clock: ManualClock) -> None:
    """The gauge is 1 while the lease is held, and a lease that a dead server had counts as a takeover."""
    store.take_over_lease(store.read_lease(CONTROLLER), "killed")
    service_clock = ServiceClock(clock, is_shared=False)
    services = Services(Settings(), async_store, service_clock, None, on_broken=fail)
    webhooks = WebhookDispatcher(async_store, service_clock, tuple)
    collector = ServiceCollector(services, service_clock, webhooks, convergence=timedelta(), max_series=1)
    assert samples(collector) == (0, 0)
    await services.lease.run_once()
    assert samples(collector) == (1, 1)
    assert store.read_lease(CONTROLLER).holder == services.writer.incarnation.hex()
    await services.lease.release()
    assert samples(collector) == (0, 1)

"""A closed month outlives the whole process: other prices, late usage, re-rating, a restart."""

import json
import signal
from collections.abc import Mapping
from datetime import datetime, timedelta
from urllib.request import Request, urlopen

from aggregator.model import Period
from tests.integration.aggregator.agents import Spool, Use, deliver, records_of
from tests.integration.aggregator.rater.test_closed_bytes import endpoints
from tests.integration.aggregator.rater.test_periods import last_month
from tests.integration.aggregator.test_serve import environment, is_ready, poll, serving

HOUR = timedelta(hours=1)
ADMIN = "/api/admin/v1"


def text(instant: datetime) -> str:
    return f"{instant:%Y-%m-%dT%H:%M:00Z}"


def ask(environ: Mapping[str, str], target: str, body: object = None) -> bytes:
    """What is answered, with the number of items without a price."""
    request = Request(
        f"http://127.0.0.1:{environ['NODEMETER_HTTP_PORT']}{target}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urlopen(request, timeout=60) as answer:
        unpriced: str = answer.headers.get("X-Unpriced-Items", "-")
        said: bytes = answer.read()
        return unpriced.encode() + b" " + said


def answers(environ: Mapping[str, str], period: Period) -> dict[str, bytes]:
    """What each endpoint says of a period."""
    return {each: ask(environ, each) for each in endpoints(period)}


async def use(environ: Mapping[str, str], spool: Spool, *uses: Use) -> None:
    """Stream it."""
    port = int(environ["NODEMETER_GRPC_PORT"])
    await deliver(port, spool, [spool.batch(records_of(*uses))])


def job(spool: Spool, name: str, start: datetime, end: datetime, quota: int) -> Use:
    """One that ran on a processor."""
    meter = spool.meter(spool.run(name, started_at=start), started_at=start, quota=quota)
    return Use(meter=meter, start=start, end=end, allocated=quota, used=quota // 2)


async def test_a_closed_month_is_the_same_bytes_in_the_next_process(database_url: str) -> None:
    """In every endpoint that shows it, before and after all that may happen."""
    environ = environment(database_url)
    period = last_month()
    start, spool = period.end - 4 * HOUR, Spool()
    with serving(environ) as process:
        poll(lambda: is_ready(environ))
        price: dict[str, object] = {"key": "cpu", "startsAt": text(start), "isRetroactive": True}
        ask(environ, f"{ADMIN}/ratios", price | {"value": "0.1"})
        await use(environ, spool, job(spool, "job-1", start, period.end, 3))
        poll(lambda: b'"fee":1.2' in ask(environ, "/api/Bills"))
        ask(environ, f"{ADMIN}/ratios", price | {"value": "0.7"})  # of which nothing is booked yet
        ask(environ, f"{ADMIN}/periods/close", {"period": f"{period.start:%Y-%m}"})
        before = answers(environ, period)
        await use(environ, spool, job(spool, "late", start, period.end, 5))
        poll(lambda: ask(environ, f"{ADMIN}/adjustments").count(b'"late"') >= 4)
        ask(environ, "/api/Ratios", {"key": "cpu", "value": 9})
        order = {"from": text(start), "to": text(period.end), "reason": "0.7 was agreed"}
        ask(environ, f"{ADMIN}/rerates", order)
        poll(lambda: b'"percent":100' in ask(environ, f"{ADMIN}/rerates"))
        adjusted = ask(environ, f"{ADMIN}/adjustments")
        kinds = (b'"kind":"late"', b'"kind":"reversal"', b'"kind":"rerated"')
        assert [adjusted.count(kind) for kind in kinds] == [4, 4, 4]
        assert answers(environ, period) == before
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    with serving(environ):
        poll(lambda: is_ready(environ))
        assert answers(environ, period) == before
        assert ask(environ, f"{ADMIN}/adjustments") == adjusted

"""Tells operators what they should know of the spool that an agent comes with."""

import logging
from typing import Final

from aggregator.ingest.hello import Welcome
from aggregator.metrics import Metrics
from aggregator.quiet import Quiet
from proto.metering.v1 import metering_pb2 as pb

_LOGGER: Final = logging.getLogger(__name__)


def tell_of_spool(hello: pb.Hello, welcome: Welcome, metrics: Metrics, quiet: Quiet) -> None:
    """Count a new spool of a known node, and one that is behind what is durable of it.

    Logged once a minute for each node: who comes with one after the other fills no log.
    """
    node = welcome.identity.node
    extra = {
        "node": node,
        "stream": str(welcome.identity.stream_id),
        "machine": hello.machine_id,
    }
    if welcome.is_fresh_spool:
        metrics.fresh_spools.inc()
        if (repeated := quiet.untold(node, "new_spool")) is not None:
            _LOGGER.warning(
                "a known node comes with a new spool",
                extra={"action": "new_spool", "repeated": repeated, **extra},
            )
    if hello.last_sequence < welcome.acked_through:
        metrics.stale_spools.inc()
        if (repeated := quiet.untold(node, "stale_spool")) is not None:
            _LOGGER.error(
                "a spool is behind what is durable: it is a copy, or was rolled back",
                extra={
                    "action": "stale_spool",
                    "last_sequence": hello.last_sequence,
                    "acked_through": welcome.acked_through,
                    "repeated": repeated,
                    **extra,
                },
            )

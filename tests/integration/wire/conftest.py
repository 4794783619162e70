"""One aggregator for all that are refused, since each of them changes nothing."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from aggregator.store.embedded import Server
from tests.conftest import database
from tests.integration.wire.authority import Authority
from tests.integration.wire.services import Service, serving


@pytest.fixture(scope="module")
def authority() -> Authority:
    """Whom the aggregator trusts."""
    return Authority()


@pytest.fixture(scope="module")
def service(
    timescaledb: Server,
    migrated_template: str,
    authority: Authority,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """An aggregator with TLS on all addresses."""
    folder: Path = tmp_path_factory.mktemp("service")
    tls = authority.write(folder / "ca")
    assert tls.ca_dir is not None
    with database(timescaledb, migrated_template) as url, serving(url, tls.ca_dir) as running:
        yield running

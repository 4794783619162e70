"""Two owners of everything, and a token for each way to see one of them."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from uuid import UUID, uuid5

from tests.integration.aggregator.api.client import Api
from tests.integration.aggregator.rows import NOON, Rows

HOUR_MS = 3_600_000
OURS = UUID("11111111-1111-4111-8111-111111111111")
THEIRS = UUID("22222222-2222-4222-8222-222222222222")


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Of a job, a node, a virtual cluster, a project and a price; each name holds `mark`."""

    mark: str
    user_id: UUID

    @property
    def bill_id(self) -> UUID:
        return uuid5(self.user_id, "bill")

    @property
    def job(self) -> str:
        return f"{self.mark}-job"

    @property
    def vc(self) -> str:
        return f"{self.mark}-vc"

    @property
    def project(self) -> str:
        return f"{self.mark}-project"

    @property
    def node(self) -> str:
        return f"{self.mark}-node"

    def insert(self, rows: Rows) -> None:
        """All that there is of it."""
        node_id = rows.node(self.node)
        rows.account(node_id, "capacity", HOUR_MS)
        rows.user(f"{self.mark}-name", self.user_id)
        rows.price_class("cpu", vc=self.vc)
        bill_id = rows.bill(
            self.job,
            billed=HOUR_MS,
            unpriced=HOUR_MS,
            job_name=f"{self.mark}-title",
            user_id=self.user_id,
            username=f"{self.mark}-name",
            vc=self.vc,
            project=self.project,
            kind="service",
            node_id=node_id,
            is_live=True,
        )
        rows.connection.execute(
            "UPDATE bill SET bill_id = %s WHERE bill_id = %s", (self.bill_id, bill_id)
        )
        rows.daily(self.bill_id, NOON.date(), effective=HOUR_MS)
        ratio_id = rows.ratio(f"cpu@{self.vc}", "1", ends_at=NOON)
        for each in (ratio_id, 0):  # a part of it has no price
            rows.charge(self.bill_id, billed=HOUR_MS, amount=Decimal(HOUR_MS), ratio_id=each)
        rows.seal(NOON + timedelta(hours=len(self.mark)))


MINE = Owner(mark="mine", user_id=OURS)
FOREIGN = Owner(mark="foreign", user_id=THEIRS)

SCOPES = {
    "user": {"userId": str(MINE.user_id)},
    "vc": {"vcName": MINE.vc},
    "project": {"project": MINE.project},
}


async def tokens(api: Api) -> dict[str, str]:
    """A secret for each role, and for each scope of mine."""
    forms: dict[str, dict[str, str]] = {
        "admin": {"role": "admin"},
        "viewer": {},
        **SCOPES,
    }
    found: dict[str, str] = {}
    for name, fields in forms.items():
        answer = await api.post("/api/admin/v1/tokens", {"name": name} | fields)
        assert answer.status == 201, answer.text
        found[name] = answer.json()["token"]
    return found

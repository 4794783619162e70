"""Claims about the digest of a period."""

import hashlib
from dataclasses import replace

from aggregator.rating.digest import Bucket, PeriodDigest
from aggregator.rating.month import parse_month

HOUR = Bucket(kind="booking", name="1759276800", line_count=2, hash="ab")
ITEM = Bucket(kind="item", name="0f", line_count=1, hash="cd")


def digest(*buckets: Bucket, month: str = "2025-10") -> str:
    """The digest of a month that holds these."""
    found = PeriodDigest(parse_month(month))
    found.add(buckets)
    return found.text()


def test_the_form_is_the_documented_one() -> None:
    """Whoever has the lines can compute the digest without this software."""
    form = "nodemeter period 1\n2025-10\nbooking\t1759276800\t2\tab\nitem\t0f\t1\tcd\n"
    assert digest(HOUR, ITEM) == hashlib.sha256(form.encode()).hexdigest()


def test_every_part_counts() -> None:
    """The month, each bucket, and each value of one."""
    other = [
        digest(month="2025-10"),
        digest(month="2025-11"),
        digest(HOUR),
        digest(HOUR, ITEM),
        digest(ITEM, HOUR),
        digest(replace(HOUR, hash="ac")),
        digest(replace(HOUR, line_count=3)),
        digest(replace(HOUR, name="1759280400")),
        digest(replace(HOUR, kind="item")),
    ]
    assert len(set(other)) == len(other)

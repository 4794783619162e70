"""Wrong raters: each breaks one rule, and the property of the worlds must find it out."""

from dataclasses import dataclass
from types import ModuleType

import pytest

from aggregator import rater, rerater
from aggregator.billing import rerating
from aggregator.store.queries import Query, query


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A query in which some text, which it holds so many times, is another one."""

    name: str
    module: ModuleType
    query: str
    old: str
    new: str
    times: int = 1

    def apply(self, patch: pytest.MonkeyPatch) -> None:
        """Put the mutated query in the place of the right one."""
        text = query(self.query).decode()
        assert text.count(self.old) == self.times, (self.name, text.count(self.old))
        mutated = Query(text.replace(self.old, self.new).encode())
        patch.setattr(self.module, f"_{self.query.upper()}", mutated)


def _rating(name: str, old: str, new: str, times: int = 1) -> Mutant:
    return Mutant(name=name, module=rater, query="rate_groups", old=old, new=new, times=times)


def _rerating(name: str, old: str, new: str, times: int = 1) -> Mutant:
    return Mutant(name=name, module=rerater, query="rerate_meters", old=old, new=new, times=times)


_IN_TIME = "WHERE hour >= (SELECT until FROM sealed)\n    ORDER BY meter_id, hour, ratio_id"
_LENGTH = "length_ms = kept.length_ms + excluded.length_ms,\n        amount = kept.amount"
_OF_DAY = f"{_LENGTH} + excluded.amount,\n        peak"
_OF_CLASS = f"{_LENGTH} + excluded.amount\n)"
_PRICES = "unpriced = kept.unpriced + excluded.unpriced,\n        amount = kept.amount + "
_OF_DAYS_PRICE = f"{_PRICES}excluded.amount\n),\nitem"
_OF_CLASSES_PRICE = f"{_PRICES}excluded.amount\n)\nSELECT"
_LATE = "WHERE hour < (SELECT until FROM sealed)\n    ORDER BY meter_id, hour, ratio_id"

SHORT = (
    _rating("the price at a window's end", "width_bucket(started_at", "width_bucket(ended_at"),
    _rating(
        "floats",
        "sum(billed) * price.value AS amount",
        "(sum(billed)::float8 * price.value::float8)::numeric AS amount",
    ),
    _rating("lost adjustments", _LATE, "WHERE false"),
    _rerating("nothing taken back", "-1, ratio_id, -amount)", "1, ratio_id, amount)"),
    _rerating(
        "a closed period edited",
        "CASE WHEN used_hour < closed.until THEN closed.booking_hour ELSE used_hour END",
        "used_hour",
        2,
    ),
    _rating("a day's last round overwrites", _OF_DAY, _OF_DAY.replace("kept.length_ms + ", "")),
    _rating(
        "a class's last round overwrites", _OF_CLASS, _OF_CLASS.replace("kept.length_ms + ", "")
    ),
)
"""Those that every run of the tests tries."""

LONG = (
    _rating("late usage twice", _IN_TIME, _IN_TIME.replace("hour >= (SELECT until FROM sealed)",
                                                          "true")),
    _rating("late usage at the price of today", "ratio.validity @> slot_start.at",
            "ratio.validity @> now()"),
    _rating("late usage in its own hour",
            "CASE WHEN hour < closed.until THEN closed.booking_hour ELSE hour END AS booked_hour",
            "hour AS booked_hour"),
    _rating("the first open hour closed, too", "CASE WHEN hour < closed.until",
            "CASE WHEN hour <= closed.until", 2),
    _rating("the first open hour sealed, too", "hour < (SELECT until FROM sealed)",
            "hour <= (SELECT until FROM sealed)"),
    _rating("charges of sealed hours edited",
            "greatest(closed.until, (SELECT max(seal.until) FROM seal))", "closed.until"),
    _rating("the least specific key", "ratio.vc IS NOT NULL DESC", "ratio.vc IS NOT NULL"),
    _rating("the vc's plain key over its model's", ", ratio.model IS NOT NULL DESC",
            ", ratio.model IS NOT NULL"),
    _rating("other methods", "WHEN 'request' THEN metered.allocated",
            "WHEN 'request' THEN metered.used"),
    _rating("the method of the first boundary", "method.validity @> slot_start.at",
            "method.validity @> %(starts_at)s::timestamptz"),
    _rating("a ratio of 0 is none", "sum(billed) FILTER (WHERE ratio_id = 0)",
            "sum(billed) FILTER (WHERE amount = 0)"),
    _rating("half hours", "INTERVAL '1 hour'", "INTERVAL '30 minutes'"),
    _rating("the last round overwrites", "billed = kept.billed + excluded.billed",
            "billed = excluded.billed", 3),
    _rating("the last round's amount overwrites", "amount = kept.amount + excluded.amount",
            "amount = excluded.amount", 3),
    _rating("late usage on its own day", "THEN closed.booking_hour ELSE hour END,",
            "THEN hour ELSE hour END,"),
    _rating("what a day lacks in prices", "unpriced = kept.unpriced + excluded.unpriced",
            "unpriced = excluded.unpriced", 2),
    _rating("a day's peak is that of its last round",
            "amount = kept.amount + excluded.amount,\n        peak = greatest(kept.peak, "
            "excluded.peak)", "amount = kept.amount + excluded.amount,\n        "
            "peak = excluded.peak", 2),
    _rerating("a closed day edited",
              "date_trunc('day',\n                   CASE WHEN used_hour < closed.until THEN "
              "closed.booking_hour", "date_trunc('day',\n                   CASE WHEN used_hour "
              "< closed.until THEN used_hour"),
    _rerating("a day at its old price", _OF_DAYS_PRICE,
              _OF_DAYS_PRICE.replace("kept.amount + excluded.amount", "kept.amount")),
    _rerating("a day unpriced for ever", _OF_DAYS_PRICE,
              _OF_DAYS_PRICE.replace("kept.unpriced + excluded.unpriced", "kept.unpriced")),
    _rerating("a class at its old price", _OF_CLASSES_PRICE,
              _OF_CLASSES_PRICE.replace("kept.amount + excluded.amount", "kept.amount")),
    _rerating("a class unpriced for ever", _OF_CLASSES_PRICE,
              _OF_CLASSES_PRICE.replace("kept.unpriced + excluded.unpriced", "kept.unpriced")),
    _rating("a class without its first item", "counted JOIN bill USING (bill_id)",
            "counted JOIN (SELECT * FROM bill ORDER BY 1 OFFSET 1) AS bill USING (bill_id)"),
    Mutant(name="devices of all models in one class", module=rater, query="create_bills",
           old="class.model IS NOT DISTINCT FROM item.model", new="true", times=2),
    Mutant(name="virtual clusters in one class", module=rater, query="create_bills",
           old="class.vc, class.project", new="item.vc, class.project", times=2),
    _rating("the first day is that of the first round", "least(bill.first_day, item.first_day)",
            "coalesce(bill.first_day, item.first_day)"),
    _rating("the last day is that of the last round", "greatest(bill.last_day, item.last_day)",
            "item.last_day"),
    _rerating("booked again on no day", "greatest(bill.last_day, item.last_day)",
              "bill.last_day"),
    _rating("two versions look like one", "OR coalesce(bill.ratio_id <> item.ratio_id, false)", ""),
    _rating("the end is that of the last round", "greatest(bill.ended_at, item.ended_at)",
            "item.ended_at"),
    _rating("accounts change after the close",
            "meter_id < 0 AND hour >= (SELECT until FROM closed)", "meter_id < 0"),
    _rating("milliseconds are lost", "extract(epoch FROM sum(ended_at - started_at)) * 1000",
            "floor(extract(epoch FROM sum(ended_at - started_at))) * 1000"),
    _rating("coverage of the last round", "observed_ms = bill.observed_ms + item.observed_ms",
            "observed_ms = item.observed_ms"),
    _rerating("earlier adjustments forgotten", "WHERE meter_id > %(after_meter_id)s AND meter_id "
              "<= %(through_meter_id)s\n          AND hour >= %(starts_at)s::timestamptz\n",
              "WHERE false AND hour >= %(starts_at)s::timestamptz\n"),
    _rerating("the key is not looked at", "class.type = %(type)s", "true"),
    _rerating("the model of the key is not looked at", "class.model = %(model)s", "true"),
    _rerating("the vc of the key is not looked at", "class.vc = %(vc)s", "true"),
    _rerating("an hour too many", "AND hour < %(ends_at)s", "AND hour <= %(ends_at)s"),
    _rerating("an hour too few", "AND hour >= %(starts_at)s::timestamptz AND hour <",
              "AND hour > %(starts_at)s::timestamptz AND hour <"),
    _rerating("the bill stays", "SET amount = bill.amount + item.amount",
              "SET amount = bill.amount"),
    _rerating("what was unpriced stays so", "unpriced = bill.unpriced + item.unpriced",
              "unpriced = bill.unpriced"),
    _rerating("the price of the hour's start", "width_bucket(line.started_at",
              "width_bucket(line.used_hour"),
    _rerating("floats again", "classed.billed * price.value AS new_amount",
              "(classed.billed::float8 * price.value::float8)::numeric AS new_amount"),
    _rerating("free is unpriced", "(price.ratio_id = 0) <> (classed.ratio_id = 0)", "false"),
    _rerating("the last meter of a batch forgotten", "meter_id <= %(through_meter_id)s",
              "meter_id < %(through_meter_id)s", 2),
    _rerating("what was taken back is there still", "HAVING sum(length_ms) > 0", ""),
    _rerating("today's price", "ratio.validity @> slot_start.at", "ratio.validity @> now()"),
    _rerating("quantities lost", "side.sign * observed_ms", "side.sign * length_ms"),
    Mutant(
        name="late meters forgotten",
        module=rerater,
        query="get_rerate_batch",
        old="SELECT meter_id FROM adjustment\n            WHERE",
        new="SELECT meter_id FROM adjustment\n            WHERE false AND",
    ),
    Mutant(name="versions that are gone count", module=rerater, query="update_rerated_versions",
           old="HAVING sum(part.length_ms) > 0", new=""),
    Mutant(name="boundaries only of starts", module=rerater, query="list_rerate_boundaries",
           old="UNION SELECT ends_at FROM ratio", new=""),
    Mutant(name="boundaries of ratios forgotten", module=rater, query="list_price_boundaries",
           old="UNION SELECT ends_at FROM ratio", new=""),
    Mutant(name="an order over too soon", module=rerater, query="move_rerate",
           old="CASE WHEN %(is_finished)s THEN clock_timestamp() END", new="clock_timestamp()"),
    Mutant(name="a dry run of another rule", module=rerating, query="preview_rerate",
           old="classed.billed * price.value <> classed.amount", new="false"),
)  # fmt: skip
"""All others, for `make mutants`."""

"""The administrators' endpoints for ratios: exact, with history, schedule, check and import."""

from collections.abc import Sequence
from http import HTTPStatus

from aiohttp import web

from aggregator.api.answer import answer_json
from aggregator.api.auth import Role
from aggregator.api.native.finding_shapes import RATIO_FINDINGS, ratio_findings
from aggregator.api.native.ratio_shapes import (
    DELETION_QUERY,
    KEY_QUERY,
    RATIO_CHANGE,
    RATIO_DIFFERENCE,
    RATIO_DIFFERENCES,
    RATIO_IMPORT,
    RATIO_LINES,
    RATIO_VERSIONS,
    SCHEDULE_QUERY,
    RatioImport,
    ratio_difference,
    ratio_line,
    ratio_version,
)
from aggregator.api.parse import LARGE_BODY, parse_body, parse_query
from aggregator.api.problem import Problem, refused
from aggregator.api.route import CALLER, DATABASE, Answer, Route
from aggregator.billing.audit import Author
from aggregator.billing.check import check_ratios, shadows_of
from aggregator.billing.ratio_changes import StaleError, delete_ratio, import_ratios, set_ratio
from aggregator.billing.ratio_plan import RangeError, Ratio
from aggregator.billing.ratios import list_history, list_ratios

_BOUNDS = {"start": "startsAt", "end": "endsAt"}


async def get_ratios(request: web.Request) -> web.StreamResponse:
    """The declared ratios to the last digit; what an import takes."""
    asked = parse_query(request, SCHEDULE_QUERY)
    ratios = await list_ratios(
        request.app[DATABASE], request[CALLER].scope, is_scheduled=bool(asked.scheduled)
    )
    return answer_json(request, RATIO_LINES.dump_json([ratio_line(each) for each in ratios]))


async def post_ratio(request: web.Request) -> web.StreamResponse:
    """Declare one ratio, and say what that does."""
    form = await parse_body(request, RATIO_CHANGE)
    author = Author(actor=request[CALLER].name, reason=form.reason)
    database = request.app[DATABASE]
    ratio = Ratio(
        key=form.key,
        value=form.value,
        start=form.starts_at,
        end=form.ends_at,
        is_retroactive=form.is_retroactive,
    )
    try:
        change = await set_ratio(database, ratio, author)
    except RangeError as error:
        raise refused(_BOUNDS[error.bound], str(error)) from error
    shadows = await shadows_of(database, form.key)
    return answer_json(request, RATIO_DIFFERENCE.dump_json(ratio_difference(change, shadows)))


async def delete_ratio_of_query(request: web.Request) -> web.StreamResponse:
    """Withdraw one ratio, scheduled versions included."""
    asked = parse_query(request, DELETION_QUERY)
    author = Author(actor=request[CALLER].name, reason=asked.reason)
    change = await delete_ratio(request.app[DATABASE], asked.key, author)
    if change is None:
        raise Problem(HTTPStatus.NOT_FOUND, "there is no ratio with this key")
    return answer_json(request, RATIO_DIFFERENCE.dump_json(ratio_difference(change)))


async def import_price_list(request: web.Request) -> web.StreamResponse:
    """Declare many ratios at once, or say what that would do."""
    form = await parse_body(request, RATIO_IMPORT, limit=LARGE_BODY)
    ratios = _listed(form)
    try:
        done = await import_ratios(
            request.app[DATABASE],
            ratios,
            Author(actor=request[CALLER].name, reason=form.reason),
            replaces_all=form.replaces_all,
            is_dry_run=form.is_dry_run,
            if_state=form.if_match and form.if_match.strip('"'),
        )
    except RangeError as error:
        place = next(n for n, each in enumerate(ratios) if each is error.ratio)
        where = f"scheduled[{place - len(form.ratios)}].{_BOUNDS[error.bound]}"
        raise refused(where, f"{error} (key {error.ratio.key})") from error
    except StaleError as error:
        raise refused(
            "ifMatch", "the ratios changed since: look at the difference again"
        ) from error
    shown = [ratio_difference(each) for each in done.differences]
    body = RATIO_DIFFERENCES.dump_json(shown)
    return answer_json(request, body, headers={"ETag": f'"{done.state}"'})


async def get_history(request: web.Request) -> web.StreamResponse:
    """Every version of one key, or of all."""
    asked = parse_query(request, KEY_QUERY)
    versions = await list_history(request.app[DATABASE], asked.key)
    return answer_json(request, RATIO_VERSIONS.dump_json([ratio_version(v) for v in versions]))


async def get_findings(request: web.Request) -> web.StreamResponse:
    """What is wrong with the declared ratios."""
    found = await check_ratios(request.app[DATABASE])
    return answer_json(request, RATIO_FINDINGS.dump_json(ratio_findings(found)))


def _listed(form: RatioImport) -> Sequence[Ratio]:
    """The prices of a list: those by key, then those with ranges."""
    late = form.is_retroactive
    by_key = [Ratio(key=key, value=value) for key, value in form.ratios.items()]
    ranged = [
        Ratio(
            key=each.key,
            value=each.value,
            start=each.starts_at,
            end=each.ends_at,
            is_retroactive=late,
        )
        for each in form.scheduled
    ]
    return [*by_key, *ranged]


_TAG = "Administration"

ROUTES = (
    Route(
        method="GET",
        path="/api/admin/v1/ratios",
        handler=get_ratios,
        operation_id="listRatios",
        tag=_TAG,
        summary="Declared ratios, exactly",
        role=Role.SCOPED,
        query=SCHEDULE_QUERY,
        answers={HTTPStatus.OK: Answer(description="By key and start", adapter=RATIO_LINES)},
    ),
    Route(
        method="POST",
        path="/api/admin/v1/ratios",
        handler=post_ratio,
        operation_id="setRatio",
        tag=_TAG,
        summary="Declare a ratio, now, for a range, or for the past",
        role=Role.ADMIN,
        body=RATIO_CHANGE,
        answers={HTTPStatus.OK: Answer(description="What it does", adapter=RATIO_DIFFERENCE)},
        problems=(HTTPStatus.CONFLICT,),
    ),
    Route(
        method="DELETE",
        path="/api/admin/v1/ratios",
        handler=delete_ratio_of_query,
        operation_id="deleteRatio",
        tag=_TAG,
        summary="Withdraw a ratio and its scheduled versions",
        role=Role.ADMIN,
        query=DELETION_QUERY,
        answers={HTTPStatus.OK: Answer(description="What it does", adapter=RATIO_DIFFERENCE)},
        problems=(HTTPStatus.NOT_FOUND,),
    ),
    Route(
        method="POST",
        path="/api/admin/v1/ratios/import",
        handler=import_price_list,
        operation_id="importRatios",
        tag=_TAG,
        summary="Declare a price list, or show the difference that it would make",
        role=Role.ADMIN,
        body=RATIO_IMPORT,
        answers={
            HTTPStatus.OK: Answer(
                description="What it does to each key",
                adapter=RATIO_DIFFERENCES,
                headers={"ETag": "The state that it found, for ifMatch"},
            )
        },
        problems=(HTTPStatus.CONFLICT,),
        timeout_seconds=120.0,
    ),
    Route(
        method="GET",
        path="/api/admin/v1/ratios/history",
        handler=get_history,
        operation_id="listRatioHistory",
        tag=_TAG,
        summary="Every version of a ratio, or of all",
        role=Role.VIEWER,
        query=KEY_QUERY,
        answers={
            HTTPStatus.OK: Answer(
                description="By key, the newest declaration first", adapter=RATIO_VERSIONS
            )
        },
    ),
    Route(
        method="GET",
        path="/api/admin/v1/ratios/check",
        handler=get_findings,
        operation_id="checkRatios",
        tag=_TAG,
        summary="Keys that price nothing, shadowed prices, usage without a price",
        role=Role.VIEWER,
        answers={HTTPStatus.OK: Answer(description="Findings", adapter=RATIO_FINDINGS)},
    ),
)

"""Token usage summed: over the records, never in counters, so that nothing counts twice.

A record is unique on (session, turn, attempt, call). Where a log holds two of them, as one that was
put together elsewhere may, the first counts. A damaged record is a call of which nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from holdfast.model.entry import LogRow
from holdfast.model.session import REVISION_BITS
from holdfast.model.usage import ModelUsage, Usage, UsageTotals
from holdfast.rules.checksums import crc32

_decode = msgspec.json.Decoder(Usage).decode


def usage_totals(rows: Iterable[LogRow]) -> UsageTotals:
    """Return the sums of usage entries, which come session by session, each in order."""
    sums: dict[str, list[int]] = {}
    session = 0
    seen: set[tuple[str | None, int, str]] = set()
    for row in rows:
        if row.revision >> REVISION_BITS != session:
            session = row.revision >> REVISION_BITS
            seen.clear()
        usage = _usage(row)
        name = (row.turn, row.attempt, usage.call)
        if name in seen:
            continue
        seen.add(name)
        told = usage.input_tokens, usage.output_tokens, usage.cached_tokens, 1, int(usage.unknown)
        before = sums.setdefault(usage.model or "", [0, 0, 0, 0, 0])
        before[:] = map(int.__add__, before, told)
    whole = [sum(column) for column in zip(*sums.values(), strict=True)] or [0, 0, 0, 0, 0]
    models = {model: _model_usage(sums[model]) for model in sorted(sums)}
    return UsageTotals(
        input_tokens=whole[0],
        output_tokens=whole[1],
        cached_tokens=whole[2],
        requests=whole[3],
        unknown=whole[4],
        models=models,
    )


def _usage(row: LogRow) -> Usage:
    try:
        if crc32(row.payload) == row.checksum:
            return _decode(row.payload)
    except (msgspec.MsgspecError, TypeError):  # no JSON, or not even bytes
        pass
    return Usage(call=f"damaged {row.revision}", unknown=True)


def _model_usage(sums: list[int]) -> ModelUsage:
    used, made, cached, requests, unknown = sums
    return ModelUsage(
        input_tokens=used,
        output_tokens=made,
        cached_tokens=cached,
        requests=requests,
        unknown=unknown,
    )

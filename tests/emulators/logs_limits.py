"""Limits of CloudWatch Logs that ministack does not have: those of the API references of PutLogEvents and FilterLogEvents."""

from __future__ import annotations

import json
import time

from ministack.core.responses import error_response_json
from ministack.services import cloudwatch_logs

MAX_BYTES, OVERHEAD, MAX_EVENTS = 1 << 20, 26, 10_000
DAY = 24 * 3600 * 1000
# Events that are older or newer than this are rejected; the others of their batch are stored.
TOO_OLD, TOO_NEW = 14 * DAY, 2 * 3600 * 1000
# AWS returns pages with few or no events, and a token as long as there may be more.
PAGE = 20

ministack_put, ministack_filter = cloudwatch_logs._put_log_events, cloudwatch_logs._filter_log_events


def invalid(why: str):
    return error_response_json("InvalidParameterException", why, 400)


def put_log_events(data):
    events = data.get("logEvents", [])
    times = [event["timestamp"] for event in events]
    if not 1 <= len(events) <= MAX_EVENTS:
        return invalid("1 to 10000 log events are allowed in a batch")
    if any(not event["message"] for event in events):
        return invalid("Log event message must not be empty")
    if sum(len(event["message"].encode()) + OVERHEAD for event in events) > MAX_BYTES:
        return invalid(f"Upload too large: the limit is {MAX_BYTES} bytes")
    if times != sorted(times):
        return invalid("Log events in a single PutLogEvents request must be in chronological order.")
    if times[-1] - times[0] > DAY:
        return invalid("The batch of log events in a single PutLogEvents request cannot span more than 24 hours.")
    now = time.time() * 1000
    old, new = sum(at < now - TOO_OLD for at in times), sum(at > now + TOO_NEW for at in times)
    accepted = events[old : len(events) - new]
    status, headers, body = ministack_put(data | {"logEvents": accepted})
    rejected = {"tooOldLogEventEndIndex": old} if old else {}
    rejected |= {"tooNewLogEventStartIndex": len(events) - new} if new else {}
    if status == 200 and rejected:
        body = json.dumps(json.loads(body) | {"rejectedLogEventsInfo": rejected}).encode()
        headers = {key: value for key, value in headers.items() if key.lower() != "content-length"}
    return status, headers, body


def filter_log_events(data):
    group = cloudwatch_logs._log_groups.get(data.get("logGroupName"))
    if group is not None and any(name not in group["streams"] for name in data.get("logStreamNames") or []):
        return error_response_json("ResourceNotFoundException", "The specified log stream does not exist.", 400)
    status, headers, body = ministack_filter({key: value for key, value in data.items() if key != "nextToken"})
    if status != 200:
        return status, headers, body
    found, start = json.loads(body), int(data.get("nextToken", -PAGE))
    events = found["events"]
    found["events"] = events[max(start, 0) : start + PAGE]
    if start + PAGE < len(events):
        found["nextToken"] = str(start + PAGE)
    headers = {key: value for key, value in headers.items() if key.lower() != "content-length"}
    return status, headers, json.dumps(found).encode()


cloudwatch_logs._put_log_events, cloudwatch_logs._filter_log_events = put_log_events, filter_log_events

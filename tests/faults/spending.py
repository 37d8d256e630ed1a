"""A worker that spends a quota until there is nothing left: `python spending.py STORE LIMITER FAILURE FILE < SECRET`.

It writes one byte into the file for each request that is let in, at once, so that what a kill takes with it is at most
a request whose answer nobody has seen.
"""

from __future__ import annotations

import logging
import os
import sys
import time

USED_UP_IN_A_ROW = 30  # 0.05 s apart: longer than a worker goes without asking the store again


def main(store: str, limiter: str, failure: str, path: str) -> None:
    from keydesk import Reason, open_desk

    logging.disable()
    secret = sys.stdin.readline().strip()
    desk = open_desk(
        {
            "KEYDESK_STORE": store,
            "KEYDESK_LIMITER": limiter,
            "KEYDESK_LIMITER_FAILURE": failure,
            "KEYDESK_USAGE_FLUSH_SECONDS": 60,
        }
    )
    out = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o600)
    used_up = 0
    while used_up < USED_UP_IN_A_ROW:
        decision = desk.verify(secret)
        if decision.allowed:
            os.write(out, b"1")
            used_up = 0
        else:
            used_up += decision.reason is Reason.QUOTA_EXCEEDED
            time.sleep(0.05)
    desk.close()


if __name__ == "__main__":
    main(*sys.argv[1:])

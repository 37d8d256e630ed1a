"""Room cli: whose keys `serve --demo` makes up: plans, owners, keys and who sends what is no key. Tables, no code.

Nobody here exists. Networks are those for documentation (RFC 5737 and RFC 3849).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

DANA, IBRAHIM, PRIYA = "dana@example.com", "ibrahim@example.com", "priya@example.com"
DEPLOY, SCANNER = "deploy.example", "leak scanner"

# How busy each hour of the day is in UTC, and each day of the week from Monday on, against the mean.
HOURS = {
    "steady": (0.9,) * 6 + (1.0,) * 6 + (1.1,) * 8 + (1.0,) * 4,
    "office": (0.05,) * 5 + (0.2, 0.6, 1.6, 2.6, 2.9, 2.7, 2.3, 1.7, 2.3, 2.6, 2.2, 1.4, 0.7, 0.3, 0.2) + (0.1,) * 4,
    "shop": (
        0.4, 0.2, 0.1, 0.1, 0.1, 0.2, 0.4, 0.7, 0.9, 1.1, 1.2, 1.4,
        1.5, 1.3, 1.2, 1.2, 1.3, 1.5, 1.9, 2.3, 2.3, 1.9, 1.2, 0.7,
    ),
    "night": (0.0, 5.0, 8.0, 5.0, 2.0) + (0.1,) * 17 + (0.3, 1.0),
}  # fmt: skip
WEEKDAYS = {
    "steady": (1.0, 1.0, 1.05, 1.0, 1.0, 0.95, 0.95),
    "office": (1.25, 1.3, 1.25, 1.2, 1.05, 0.2, 0.15),
    "shop": (0.85, 0.85, 0.9, 0.95, 1.1, 1.3, 1.2),
    "night": (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0),
}


@dataclass(frozen=True, slots=True)
class MadeUpKey:
    """One key and its life. Days are counted back from now.

    Attributes:
        name, owner: Of the key.
        made: How many days ago it was issued.
        per_day: How many requests it sends on a day.
        fields: More fields of the key.
        rhythm: When it sends them, see `HOURS`.
        refused: Which share of its requests is refused for a reason.
        ends: In how many days it expires; below 0 where it has.
        then: What became of it: how many days ago, by whom, and the method of `Desk` with its arguments.
        idle: For how many days nobody has used it; None where somebody does.
        goes_on: Which share of its requests is still sent after its end.
        spent: How many credits of its quotas are spent.
        taken: How many requests its limits hold at this moment.
    """

    name: str
    owner: str | None
    made: float
    per_day: float
    fields: Mapping[str, Any] = field(default_factory=dict)
    rhythm: str = "office"
    refused: Mapping[str, float] = field(default_factory=dict)
    ends: float | None = None
    then: tuple[tuple[float, str, str, Mapping[str, Any]], ...] = ()
    idle: float | None = None
    goes_on: float = 0.0
    spent: int = 0
    taken: int = 0


def _overlap(days: float) -> dict[str, timedelta]:
    return {"overlap": timedelta(days=days)}


PLANS: Mapping[str, Mapping[str, Any]] = {
    "free": {
        "description": "To try the interface out.",
        "scopes": ["catalog:read", "orders:read"],
        "limits": ["60/minute"],
        "quotas": ["10000/month"],
    },
    "standard": {
        "description": "For shops with orders of their own.",
        "scopes": ["catalog:read", "orders:read", "orders:write"],
        "limits": ["300/minute", "10000/hour"],
    },
    "partner": {
        "description": "For carriers and banks, by contract.",
        "scopes": ["catalog:read", "orders:*", "shipments:*", "payments:read"],
        "limits": ["50/second", "2000/minute"],
    },
    "reporting": {
        "description": "Reads much, and seldom.",
        "scopes": ["orders:read", "reports:*"],
        "limits": ["30/minute"],
        "quotas": ["60000/day"],
    },
}

OWNERS: Mapping[str, Mapping[str, Any]] = {
    "Osprey & Pine Parcels": {"limits": ["5000/minute"]},
    "Kettlebrook Savings": {"limits": ["3000/minute"], "quotas": ["900000/month"]},
    "tern-analytics": {"limits": ["100/minute"], "quotas": ["100000/day"]},
    "Ferncastle Council": {"quotas": ["150000/month"]},
}

FREE, STANDARD, PARTNER, REPORTING = ({"plan": name} for name in PLANS)

KEYS = (
    MadeUpKey("Bookshop frontend", "Quillmark Press", 380, 5200, STANDARD, "shop", {"rate_limited": 0.01}),
    MadeUpKey("Nightly catalogue export", "Quillmark Press", 300, 1400, STANDARD, "night", ends=5),
    MadeUpKey("Print room terminal", "Quillmark Press", 210, 260, {
        **STANDARD, "networks": ["192.0.2.0/26"], "description": "The computer beside the guillotine.",
    }, refused={"network_denied": 0.03}),
    MadeUpKey("old bookshop (do not use)", "Quillmark Press", 410, 900, STANDARD, "shop", goes_on=0.15, then=(
        (9, DANA, "revoke", {"reason": "Replaced by Bookshop frontend."}),
    )),
    MadeUpKey("Tracking API", "Osprey & Pine Parcels", 402, 42000, {
        **PARTNER, "description": "Behind their public tracking page. Call the depot before you touch it.",
    }, "shop", {"rate_limited": 0.004}, then=(
        (190, DEPLOY, "rotate", _overlap(7)), (2, DEPLOY, "rotate", _overlap(7)),
    )),
    MadeUpKey("Depot scanners, north", "Osprey & Pine Parcels", 260, 26000, {
        **PARTNER, "networks": ["198.51.100.0/25"], "scopes": ["shipments:*"],
    }, refused={"network_denied": 0.002}),
    MadeUpKey("Depot scanners, south", "Osprey & Pine Parcels", 258, 17500, {
        **PARTNER, "networks": ["198.51.100.128/25", "2001:db8:51::/48"], "scopes": ["shipments:*"],
    }),
    MadeUpKey("Route planner", "Osprey & Pine Parcels", 120, 3100, PARTNER, "night", {"rate_limited": 0.06}),
    MadeUpKey("Webhook relay", "Osprey & Pine Parcels", 95, 15000, PARTNER, "steady", then=(
        (0.5, IBRAHIM, "rotate", _overlap(1)),
    )),
    MadeUpKey("driver-app (Android)", "Osprey & Pine Parcels", 88, 21000, PARTNER, "office", {"scope_denied": 0.02}),
    MadeUpKey("Appointments widget", "Marrowby Dental", 150, 420, FREE, spent=9410),
    MadeUpKey("Dr. O'Brien's laptop", "Marrowby Dental", 140, 0, FREE),
    MadeUpKey("reminder-sms", "Marrowby Dental", 149, 160, FREE, goes_on=0.6, spent=1900, then=(
        (3, DANA, "disable", {}),
    )),
    MadeUpKey("Öffnungszeiten / opening hours", "Ferncastle Council", 330, 2100, STANDARD, "shop", spent=41000),
    MadeUpKey("Bin-day reminders", "Ferncastle Council", 325, 700, STANDARD, "night", spent=11300),
    MadeUpKey("Freedom of information portal", "Ferncastle Council", 363, 380, STANDARD, ends=2, spent=6200),
    MadeUpKey("Parking permits (trial)", "Ferncastle Council", 96, 850, STANDARD, ends=-6, goes_on=0.4),
    MadeUpKey("test2-final-FINAL", "Ferncastle Council", 300, 40, {
        **STANDARD, "environment": "test", "description": "From the workshop. Delete?",
    }, idle=130),
    MadeUpKey("Storefront", "pinwheel-toys", 45, 900, FREE, "shop", {"rate_limited": 0.12}, spent=7200),
    MadeUpKey("stock-sync", "pinwheel-toys", 44, 650, FREE, "steady", {"quota_exceeded": 0.35}, spent=10000),
    MadeUpKey("Christmas campaign \N{CHRISTMAS TREE}", "pinwheel-toys", 340, 500, FREE, "shop", idle=290),
    MadeUpKey("Meter readings ingest", "Saltmarsh Grid", 290, 38000, {
        "scopes": ["readings:write"], "limits": ["40000/day"],
    }, "steady", {"rate_limited": 0.008}, taken=38700),
    MadeUpKey("Forecast model v3", "Saltmarsh Grid", 60, 5100, REPORTING, "night", spent=2900),
    MadeUpKey("Forecast model v2", "Saltmarsh Grid", 240, 4800, REPORTING, "night", idle=41, then=(
        (40, PRIYA, "revoke", {"reason": "Superseded by v3."}),
    )),
    MadeUpKey("SCADA bridge (read only)", "Saltmarsh Grid", 200, 2880, {
        "scopes": ["readings:read"], "networks": ["2001:db8:40::/48"], "limits": ["10/second"],
    }, "steady", {"network_denied": 0.08}),
    MadeUpKey("Control room display", "Saltmarsh Grid", 198, 1440, {
        "scopes": ["readings:read"], "networks": ["2001:db8:40:1::/64", "192.0.2.200"],
    }, "steady"),
    MadeUpKey("Spreadsheet", "Dunlin & Daughters", 175, 45, FREE, spent=640),
    MadeUpKey("Kasse \N{EM DASH} Filiale 7", "Dunlin & Daughters", 170, 310, FREE, "shop", spent=4100),
    MadeUpKey("phone of the boss", "Dunlin & Daughters", 168, 12, FREE, idle=97),
    MadeUpKey("Christening orders 'A & B'", "Dunlin & Daughters", 80, 0, {**FREE, "scopes": ["orders:read"]}),
    MadeUpKey("experiment-14", "glasshouse-labs", 52, 800, {
        "environment": "test", "scopes": ["orders:*", "catalog:*"],
    }, "steady", {"scope_denied": 0.05}),
    MadeUpKey("experiment-15", "glasshouse-labs", 11, 1900, {
        "environment": "test", "scopes": ["orders:*", "catalog:*"], "limits": ["5/second"],
    }, "steady", {"rate_limited": 0.3}),
    MadeUpKey("Jules' notebook", "glasshouse-labs", 118, 130, {"scopes": ["catalog:read"]}, ends=21),
    MadeUpKey("GPU queue", "glasshouse-labs", 117, 6400, {"scopes": ["jobs:*"], "quotas": ["1000000/total"]},
              "steady", spent=871000),
    MadeUpKey("load test, delete after", "glasshouse-labs", 100, 2600, {"environment": "test"}, "office",
              goes_on=0.8, then=(
        (12, SCANNER, "revoke", {"reason": "Found in a public repository."}),
    )),
    MadeUpKey("Reconciliation", "Kettlebrook Savings", 395, 9800, {
        **PARTNER, "scopes": ["payments:read"], "networks": ["203.0.113.16/28"],
    }, "night", spent=214000, then=((200, IBRAHIM, "rotate", _overlap(14)), (31, IBRAHIM, "rotate", _overlap(14)))),
    MadeUpKey("Statement printer", "Kettlebrook Savings", 390, 2400, {
        **PARTNER, "networks": ["203.0.113.16/28"],
    }, "night", spent=51000),
    MadeUpKey("Audit export", "Kettlebrook Savings", 340, 90, PARTNER, ends=25, spent=2100),
    MadeUpKey("Fraud rules engine", "Kettlebrook Savings", 180, 18000, PARTNER, "steady", spent=460000),
    MadeUpKey("Branch kiosk 0041", "Kettlebrook Savings", 175, 600, {
        **PARTNER, "scopes": ["payments:read"], "description": "Kiosk in the Mill Lane branch; 0042 is on loan to it.",
    }, spent=13000, then=((60, DANA, "disable", {}), (58, DANA, "enable", {}))),
    MadeUpKey("Branch kiosk 0042", "Kettlebrook Savings", 175, 580, {**PARTNER, "scopes": ["payments:read"]}, idle=71,
              then=((70, IBRAHIM, "disable", {}),)),
    MadeUpKey("Onlineshop", "Zwölferhof Weine", 230, 1700, STANDARD, "shop"),
    MadeUpKey("Etikettendrucker", "Zwölferhof Weine", 228, 75, STANDARD),
    MadeUpKey("Weinclub-Newsletter", "Zwölferhof Weine", 226, 30, STANDARD, idle=112),
    MadeUpKey("Weihnachtsmarkt 2 (Kasse)", "Zwölferhof Weine", 330, 120, STANDARD, idle=262, ends=-260),
    MadeUpKey("Daily dashboard", "tern-analytics", 310, 3200, REPORTING, refused={"rate_limited": 0.05}, spent=1400),
    MadeUpKey("Warehouse sync: orders \N{RIGHTWARDS ARROW} lake", "tern-analytics", 305, 24000, {
        **REPORTING, "scopes": ["orders:read"],
    }, "night", {"rate_limited": 0.02}, spent=56900),
    MadeUpKey("BI tool <read only>", "tern-analytics", 140, 780, REPORTING, spent=300),
    MadeUpKey("intern's script (ask Priya)", "tern-analytics", 26, 540, {**REPORTING, "scopes": ["reports:read"]},
              refused={"scope_denied": 0.6}, spent=90, ends=4),
    MadeUpKey("Booking site", "Bramblewick Kayaks", 215, 260, FREE, "shop", spent=3600),
    MadeUpKey("Weather board at the jetty", "Bramblewick Kayaks", 214, 288, FREE, "steady", spent=6400),
    MadeUpKey("名簿同期 (roster sync)", "Bramblewick Kayaks", 90, 48, FREE, "night", spent=700, ends=13),
    MadeUpKey("Booking site (new, not live yet)", "Bramblewick Kayaks", 6, 0, {**FREE, "environment": "test"}),
    MadeUpKey("Health prober", None, 401, 2880, {"scopes": ["health:read"]}, "steady"),
    MadeUpKey("Internal cron", None, 400, 620, {"scopes": ["orders:*", "reports:*"], "networks": ["192.0.2.0/24"]},
              "night", {"scope_denied": 0.01}),
    MadeUpKey("Legacy batch \N{EM DASH} nobody knows who runs this", None, 405, 210, {
        "description": "No owner, no limits, used every night. Asked around in spring: nobody.",
        "scopes": ["orders:*", "catalog:*", "payments:read"],
    }, "night"),
    MadeUpKey("Support desk", None, 355, 340, {
        "scopes": ["keydesk:keys:read", "orders:read"], "limits": ["120/minute"],
    }),
    MadeUpKey("ci/cd: staging \"blue\"", None, 160, 95, {"environment": "test", "scopes": ["orders:*"]}, then=(
        (80, DEPLOY, "rotate", _overlap(0)),
    )),
    MadeUpKey("Mobile app, all customers, the key that is compiled into version 4 and cannot be taken back", None, 250,
              30000, {"scopes": ["catalog:read"], "limits": ["20000/hour"]}, "shop", {"rate_limited": 0.02}, ends=6),
    MadeUpKey("Partner portal (contract ended)", None, 390, 1100, {"scopes": ["orders:read"]}, ends=-2, goes_on=0.7),
)  # fmt: skip

# What is no key's: why, the network it comes from, how many an hour, and when.
MISTAKES = (
    ("malformed", "192.0.2.0/24", 2.5, "office"),
    ("malformed", "198.51.100.0/24", 0.6, "shop"),
    ("unknown", "203.0.113.0/24", 1.2, "steady"),
    ("unknown", "2001:db8:51::/56", 0.4, "office"),
    ("malformed", "2001:db8:7e:4200::/56", 3.0, "night"),
)
# Somebody tries texts out: why they are none, from where, how many hours ago, for how many minutes, how many a minute.
ATTACK = (("unknown", "198.51.100.0/24", 9, 38, 170), ("malformed", "198.51.100.0/24", 9, 12, 60))

"""Keydesk: API keys for Flask, and for whatever stands behind it.

    import keydesk
    desk = keydesk.open_desk()
    issued = desk.issue(name="Mobile app", scopes=["orders:read"])
    desk.verify(issued.secret, scopes=["orders:read"]).allowed

Importing this loads neither Flask nor SQLAlchemy. The Flask extension is `keydesk.flask`.
"""

from .build import open_desk
from .clock import Clock, SystemClock
from .decision import Allowed, Check, Decision, Denied, Reason, Refused
from .desk import Desk
from .errors import (
    AddedBefore,
    DuplicateSecret,
    ImportRefused,
    InvalidField,
    KeydeskError,
    KeyNotFound,
    NotPermitted,
    OtherRequest,
    OwnerNotFound,
    PlanNotFound,
    SchemaMismatch,
    SettingsError,
    StateConflict,
    StoreError,
    StoreReadOnly,
    StoreUnavailable,
    VersionConflict,
)
from .issuing import HeldKey
from .keys.limits import Limit, Period, Quota
from .keys.networks import Networks
from .keys.plans import OwnerTerms, Plan
from .keys.record import IssuedKey, Key, Secret, Status
from .keys.scopes import Scopes
from .keys.secret import Environment
from .plans import Owners, Plans
from .ports import Once, Page
from .redaction import RedactSecrets
from .usage import KeyUsage, MistakeReport, MistakeUsage, Range, Span, TopReport, Usage, UsageReport

__version__ = "0.1.0"

__all__ = [
    "open_desk", "Desk", "Clock", "SystemClock",
    "Key", "Secret", "IssuedKey", "HeldKey", "Status", "Environment", "Scopes", "Networks", "Limit", "Quota", "Period",
    "Plan", "Plans", "OwnerTerms", "Owners",
    "Decision", "Allowed", "Denied", "Reason", "Check", "Page", "Once",
    "UsageReport", "Usage", "TopReport", "KeyUsage", "MistakeReport", "MistakeUsage", "Range", "Span",
    "KeydeskError", "SettingsError", "InvalidField", "KeyNotFound", "PlanNotFound", "OwnerNotFound", "StateConflict",
    "DuplicateSecret", "VersionConflict", "AddedBefore", "OtherRequest", "NotPermitted", "ImportRefused", "Refused",
    "StoreError", "StoreReadOnly", "StoreUnavailable", "SchemaMismatch", "RedactSecrets",
]  # fmt: skip

"""Room testing: what users and our own suite test with. Needs pytest.

- `ManualClock`: a clock that stands until it is advanced.
- `KeyStoreContract`, `WritableKeyStoreContract`: the tests every store passes; see `keydesk.testing.stores`.
- `PlanStoreContract`: the tests a store with plans passes besides; see `keydesk.testing.plans`.
- `LimiterContract`: the tests every limiter passes; see `keydesk.testing.limiters`.
- `keydesk.testing.fixtures`: pytest fixtures, for `pytest_plugins = ["keydesk.testing.fixtures"]`.
"""

import pytest

# Before the module is first imported: so a contract that fails shows the values it compared.
pytest.register_assert_rewrite("keydesk.testing.limiters", "keydesk.testing.plans", "keydesk.testing.stores")

from .clock import START, ManualClock  # noqa: E402
from .limiters import LimiterContract  # noqa: E402
from .plans import PlanStoreContract  # noqa: E402
from .stores import KeyStoreContract, WritableKeyStoreContract, new_key  # noqa: E402

__all__ = [
    "START", "KeyStoreContract", "LimiterContract", "ManualClock", "PlanStoreContract", "WritableKeyStoreContract",
    "new_key",
]  # fmt: skip

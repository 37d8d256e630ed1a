"""A client changes its secret without an interruption. Run it with:

python examples/rotation.py
"""

from datetime import timedelta

import keydesk
from keydesk.testing import ManualClock


def main() -> None:
    """Rotate a key and look at both of its secrets, before and after the overlap."""
    clock = ManualClock()  # so that a day passes at once; without it, the system's clock is used
    desk = keydesk.open_desk({"KEYDESK_STORE": "memory://"}, clock=clock)
    issued = desk.issue(name="Mobile app", owner="acme", scopes=["orders:read"])

    rotated = desk.rotate(issued.key.id, overlap=timedelta(hours=24))
    print("in the overlap:   old", desk.verify(issued.secret).allowed, "  new", desk.verify(rotated.secret).allowed)

    clock.advance(timedelta(hours=24))
    print("after 24 hours:   old", desk.verify(issued.secret).reason, "  new", desk.verify(rotated.secret).allowed)
    print("the key is the same:", rotated.key.id == issued.key.id, "- its secrets:", len(rotated.key.secrets))


if __name__ == "__main__":
    main()

"""Keys in a file beside the program. Run it with:

flask --app examples/keys_in_a_file/app.py run
"""

from pathlib import Path

from flask import Flask

from keydesk.flask import Keydesk, current_key

app = Flask(__name__)
app.config["KEYDESK_STORE"] = f"file:{Path(__file__).with_name('config.yml')}"
keys = Keydesk(app)


@app.get("/report")
@keys.require()
def report() -> dict[str, str]:
    """Say who called. Without a key the answer's `reason` is `missing`, with a wrong one it is `invalid`."""
    return {"report": "all well", "for": current_key.name}

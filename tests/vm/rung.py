"""Reads `sensor doctor --format json` and fails unless the hooks are there that this machine is started for."""

import json
import sys

WANTED = {"open": "lsm", "exec_window": "lsm", "socket_connect": "lsm", "socket_sendmsg": "lsm"}

report = json.load(sys.stdin)
rungs = {hook["event"]: hook["rung"] for hook in report["hooks"]}
wrong = {event: rungs.get(event) for event, rung in WANTED.items() if rungs.get(event) != rung}
if wrong:
    print(json.dumps(report, indent=1))
    sys.exit(f"not on the LSM rung: {wrong}")

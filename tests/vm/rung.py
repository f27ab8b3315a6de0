"""Reads `sensor doctor --format json` and fails unless the hooks are there that this machine is started for."""

import json
import sys

WANTED = ["open", "exec_window", "socket_connect", "socket_sendmsg", "connect4", "connect6"]

report = json.load(sys.stdin)
rungs = {hook["event"]: hook["rung"] for hook in report["hooks"]}
wrong = {event: rungs.get(event) for event in WANTED if rungs.get(event) != "lsm"}
if wrong:
    print(json.dumps(report, indent=1))
    sys.exit(f"not on the LSM rung: {wrong}")

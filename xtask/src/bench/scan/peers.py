"""One peer over a list of samples, in its own environment: a JSON line per sample.

Usage: peers.py PEER LIMIT_S < paths, one a line.  Output: {"flagged": bool, "seconds": s, "failed": bool}
"""
import json
import logging
import os
import signal
import sys
import time
import warnings

logging.disable(logging.CRITICAL)
warnings.simplefilter("ignore")
os.environ.update(PROMPTFOO_DISABLE_TELEMETRY="1", DO_NOT_TRACK="1", NO_ANALYTICS="1")


def files(path):
    if os.path.isfile(path):
        return [path]
    return sorted(os.path.join(base, name) for base, _, names in os.walk(path) for name in names)


def picklescan():
    from picklescan.scanner import scan_directory_path, scan_file_path

    def judge(path):
        result = scan_directory_path(path) if os.path.isdir(path) else scan_file_path(path)
        return result.issues_count > 0 or result.infected_files > 0

    return judge


def modelscan():
    from modelscan.modelscan import ModelScan
    from modelscan.settings import DEFAULT_SETTINGS

    def judge(path):
        scanner = ModelScan(settings=DEFAULT_SETTINGS)
        scanner.scan(path)
        return len(scanner.issues.all_issues) > 0

    return judge


def fickling():
    import fickling

    def judge(path):
        found = False
        for one in files(path):
            try:
                found |= not fickling.is_likely_safe(one)
            except Exception:
                pass  # no pickle, says it
        return found

    return judge


def modelaudit():
    from modelaudit.core import scan_model_directory_or_file

    def judge(path):
        result = scan_model_directory_or_file(path)
        return any(str(issue.severity.value) in ("warning", "critical") for issue in result.issues)

    return judge


class TimeUp(BaseException):
    pass


def time_up(*_):
    raise TimeUp


def main():
    judge = {"picklescan": picklescan, "modelscan": modelscan, "fickling": fickling, "modelaudit": modelaudit}[sys.argv[1]]()
    limit = int(sys.argv[2])
    out = os.fdopen(os.dup(1), "w")
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    signal.signal(signal.SIGALRM, time_up)
    for line in sys.stdin:
        started = time.perf_counter()
        flagged, failed = False, False
        signal.alarm(limit)
        try:
            flagged = bool(judge(line.rstrip("\n")))
        except BaseException:
            failed = True
        signal.alarm(0)
        print(json.dumps({"flagged": flagged, "failed": failed, "seconds": time.perf_counter() - started}), file=out, flush=True)


main()

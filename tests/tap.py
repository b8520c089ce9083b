"""For tests in Python: TAP, and waiting with a bound. A script finds it with
    sys.dont_write_bytecode = True
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)) + "/..")"""
import sys
import time

SHOWN = 6000  # characters of what is said of a failure
seed = None  # the script's; said with what fails
count = failed = 0


def ok(good, what, detail=""):
    global count, failed
    count += 1
    print("%sok %d - %s" % ("" if good else "not ", count, what))
    if not good:
        failed += 1
        text = ("" if seed is None else "seed %d\n" % seed) + str(detail)[:SHOWN]
        print("# " + text.replace("\n", "\n# "))
    sys.stdout.flush()
    return good


def wait_for(what, seconds, pause=0.02):
    """Its first true value, or the last one when the time is over."""
    end = time.monotonic() + seconds
    while True:
        value = what()
        if value or time.monotonic() > end:
            return value
        time.sleep(pause)


def done():
    print("1..%d" % count)
    sys.exit(1 if failed else 0)

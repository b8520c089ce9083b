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


def wait_for(what, seconds, pause=None):
    """Its first true value, or the last one when the time is over. Without a pause it looks every 20 ms at first, later,
    when it matters less, every 100."""
    began = time.monotonic()
    while True:
        value = what()
        took = time.monotonic() - began
        if value or took > seconds:
            return value
        time.sleep(pause or min(max(took / 20, 0.02), 0.1))


def done():
    print("1..%d" % count)
    sys.exit(1 if failed else 0)

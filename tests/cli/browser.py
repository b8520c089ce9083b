"""Headless Chromium over its debugging pipe, as far as tests of pages need it. Everything has a deadline; the browser and
what it has written are gone at the end of the `with`."""
import base64, json, os, select, shutil, signal, subprocess, tempfile, time


class Browser:
    def __init__(self, program, deadline=60):
        self.end = time.monotonic() + deadline
        self.dir = tempfile.mkdtemp(prefix="browser-")
        self.last, self.rest, self.session = 0, b"", None
        self.troubles, self.passwords = [], None
        down, self.to = os.pipe()
        self.back, up = os.pipe()

        def streams():  # it reads from 3 and writes to 4
            a, b = os.dup(down), os.dup(up)
            os.dup2(a, 3)
            os.dup2(b, 4)

        self.child = subprocess.Popen(
            [program, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
             "--disable-background-networking", "--disable-component-update", "--disable-extensions", "--disable-breakpad",
             "--remote-debugging-pipe", "--user-data-dir=" + self.dir, "about:blank"],
            preexec_fn=streams, close_fds=False, start_new_session=True, env=dict(os.environ, HOME=self.dir, TMPDIR=self.dir),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        os.close(down)
        os.close(up)

    def __enter__(self):
        targets = []
        while not targets:
            targets = [t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page"]
        self.session = self.call("Target.attachToTarget", targetId=targets[0]["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(domain + ".enable")
        return self

    def __exit__(self, *_):
        try:
            os.killpg(self.child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.child.wait()
        os.close(self.to)
        os.close(self.back)
        for _ in range(50):
            shutil.rmtree(self.dir, ignore_errors=True)
            if not os.path.exists(self.dir):
                break
            time.sleep(0.1)

    def left(self):
        left = self.end - time.monotonic()
        if left <= 0:
            raise TimeoutError("the browser takes too long")
        return left

    def message(self):
        while b"\0" not in self.rest:
            if not select.select([self.back], [], [], self.left())[0]:
                continue
            piece = os.read(self.back, 1 << 16)
            if not piece:
                raise EOFError("the browser has ended")
            self.rest += piece
        one, self.rest = self.rest.split(b"\0", 1)
        return json.loads(one)

    def send(self, method, **params):
        self.last += 1
        m = {"id": self.last, "method": method, "params": params}
        if self.session:
            m["sessionId"] = self.session
        os.write(self.to, json.dumps(m).encode() + b"\0")
        return self.last

    def call(self, method, **params):
        mine = self.send(method, **params)
        while True:
            m = self.message()
            if m.get("id") == mine:
                if "error" in m:
                    raise RuntimeError("%s: %s" % (method, m["error"]))
                return m["result"]
            self.heard(m)

    def heard(self, m):
        kind, p = m.get("method"), m.get("params", {})
        if kind == "Runtime.exceptionThrown":
            self.troubles.append(p["exceptionDetails"].get("exception", {}).get("description", "exception"))
        elif kind == "Log.entryAdded" and p["entry"]["level"] == "error":
            self.troubles.append(p["entry"]["text"])
        elif kind == "Page.javascriptDialogOpening":
            self.troubles.append("a dialog: " + p["message"])
            self.send("Page.handleJavaScriptDialog", accept=True)
        elif kind == "Fetch.requestPaused":
            self.send("Fetch.continueRequest", requestId=p["requestId"])
        elif kind == "Fetch.authRequired":
            user, word = self.passwords
            self.send("Fetch.continueWithAuth", requestId=p["requestId"], authChallengeResponse={
                "response": "ProvideCredentials", "username": user, "password": word})

    def login(self, user, password):
        self.passwords = (user, password)
        self.call("Fetch.enable", handleAuthRequests=True)

    def look(self, width, height, dark=False, phone=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=2 if phone else 1, mobile=phone)
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def scripts(self, on):
        self.call("Emulation.setScriptExecutionDisabled", value=not on)

    def offline(self, on):
        self.call("Network.enable")
        self.call("Network.emulateNetworkConditions", offline=on, latency=0, downloadThroughput=-1, uploadThroughput=-1)

    def open(self, url):
        self.call("Page.navigate", url=url)
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")

    def value(self, expression):
        r = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in r:
            raise RuntimeError("%s: %s" % (expression, r["exceptionDetails"]["exception"].get("description")))
        return r["result"].get("value")

    def until(self, expression, seconds=60):
        end = time.monotonic() + seconds
        while True:
            try:
                v = self.value("!!(%s)" % expression)
            except RuntimeError:  # between two documents
                v = None
            if v:
                return
            if time.monotonic() > end:
                raise TimeoutError("never: " + expression)
            time.sleep(0.1)

    def text(self, selector):
        return self.value("document.querySelector(%s)?.textContent" % json.dumps(selector))

    def rows(self, table):
        return self.value("[...document.getElementById('%s').tBodies[0].rows].map(r => [...r.cells].map(c => c.textContent.trim()))" % table)

    def picture(self, path):
        with open(path, "wb") as f:
            f.write(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))

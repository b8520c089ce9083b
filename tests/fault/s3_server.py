#!/usr/bin/env python3
"""An object store for tests: the part of S3 that muster uses, on loopback, with faults.

    s3_server.py DIR      writes DIR/port once it listens

DIR/objects/KEY (percent-encoded) holds the objects, so that tests can damage them; DIR/log has a line for each request:
METHOD KEY QUERY STATUS BYTES. DIR/faults has faults, a line each, which the server takes out as it commits them:
    COUNT KIND METHOD REGEX
for the next COUNT requests of METHOD (or *) whose "KEY?QUERY" the expression finds. Kinds: 403 badkey 503 500body; stall
(no answer), slow (a byte a second), cut (the connection is closed in the middle), lost (done, but no answer), torn (half
of the answer, as if it were all), flip (one bit of the answer is wrong), endless (each page of a listing says that there
is more, behind the same place). Signatures are checked.
"""
import hashlib, hmac, http.server, json, os, re, socketserver, sys, threading, time
from urllib.parse import parse_qsl, quote, unquote
from xml.sax.saxutils import escape

D = sys.argv[1]
PAGE = int(os.environ.get("PAGE", "1000"))
LEAST = int(os.environ.get("LEAST", str(5 << 20)))
KEYS = {"AKTEST": "SECRETTEST"}
TOKEN = os.environ.get("TOKEN", "")
lock = threading.RLock()
uploads = {}  # id -> (key, meta, {number: bytes}); kept in DIR/uploads.json for the tests to look at
for d in ("objects", "meta"):
    os.makedirs(f"{D}/{d}", exist_ok=True)


def take_fault(method, text):
    with lock:
        try:
            lines = open(f"{D}/faults").read().splitlines()
        except FileNotFoundError:
            return None
        for i, line in enumerate(lines):
            count, kind, m, regex = line.split(None, 3)
            if int(count) > 0 and m in ("*", method) and re.search(regex, text):
                lines[i] = f"{int(count) - 1} {kind} {m} {regex}"
                with open(f"{D}/faults.new", "w") as f:
                    f.write("\n".join(lines) + "\n")
                os.rename(f"{D}/faults.new", f"{D}/faults")
                return kind
    return None


def file_of(kind, key):
    return f"{D}/{kind}/{quote(key, safe='')}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def note(self, status, n):
        with lock, open(f"{D}/log", "a") as f:
            f.write(f"{self.command} {self.key} {self.query} {status} {n}\n")

    def answer(self, status, body=b"", headers=None, length=None):
        if isinstance(body, str):
            body = body.encode()
        kind = self.fault
        self.note(status, len(body))
        if kind == "lost":
            self.close_connection = True
            return
        if kind == "torn" and body:
            body = body[: len(body) // 2]
        if kind == "flip" and body:
            body = body[:-1] + bytes([body[-1] ^ 1])
        self.send_response(status)
        for k, v in (headers or {}).items():
            self.send_header(k, v)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command == "HEAD":
            return
        if kind == "cut":
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
        elif kind == "slow":
            for i in range(min(len(body), 30)):
                self.wfile.write(body[i : i + 1])
                self.wfile.flush()
                time.sleep(1)
            self.close_connection = True
        else:
            self.wfile.write(body)

    def error(self, status, code, message="no"):
        self.answer(status, f"<?xml version='1.0'?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>")

    def signed(self, body):
        m = re.fullmatch(
            r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/s3/aws4_request, ?SignedHeaders=([^,]+), ?Signature=(\w+)",
            self.headers.get("Authorization", ""))
        if not m:
            return "AccessDenied"
        ident, day, region, names, signature = m.groups()
        if ident not in KEYS:
            return "InvalidAccessKeyId"
        for h in self.headers:
            if h.lower().startswith("x-amz-") and h.lower() not in names.split(";"):
                return "AccessDenied"
        if TOKEN and self.headers.get("x-amz-security-token") != TOKEN:
            return "InvalidToken"
        payload = self.headers.get("x-amz-content-sha256", "")
        if payload != hashlib.sha256(body).hexdigest():
            return "XAmzContentSHA256Mismatch"
        path, _, query = self.path.partition("?")
        query = "&".join(sorted(query.split("&"))) if query else ""
        heads = "".join(f"{n}:{self.headers[n].strip()}\n" for n in names.split(";"))
        canonical = "\n".join([self.command, path, query, heads, names, payload])
        date = self.headers["x-amz-date"]
        text = "\n".join(["AWS4-HMAC-SHA256", date, f"{day}/{region}/s3/aws4_request",
                          hashlib.sha256(canonical.encode()).hexdigest()])
        key = ("AWS4" + KEYS[ident]).encode()
        for part in (day, region, "s3", "aws4_request", text):
            key = hmac.new(key, part.encode(), hashlib.sha256).digest()
        return None if key.hex() == signature else "SignatureDoesNotMatch"

    def handle_one(self):
        path, _, self.query = self.path.partition("?")
        bucket, _, key = path.lstrip("/").partition("/")
        self.key = unquote(key) or "-"
        q = dict(parse_qsl(self.query, keep_blank_values=True))
        self.fault = take_fault(self.command, f"{self.key}?{self.query}")
        n = int(self.headers.get("Content-Length", 0))
        if self.fault == "cut" and self.command in ("PUT", "POST") and n:
            self.rfile.read(n // 2)
            self.note("cut", n // 2)
            self.close_connection = True
            self.connection.shutdown(2)
            return
        body = self.rfile.read(n)
        if self.fault == "stall":
            self.note("stall", n)
            time.sleep(float(os.environ.get("STALL", "20")))
            self.close_connection = True
            return
        if self.fault == "403":
            return self.error(403, "AccessDenied", "Access &lt;Denied&gt;")
        if self.fault == "badkey":
            return self.error(403, "InvalidAccessKeyId", "The key does not exist")
        if self.fault == "503":
            return self.error(503, "SlowDown", "Please reduce your request rate")
        if self.fault == "500body":
            return self.error(200, "InternalError", "We encountered an internal error")
        bad = self.signed(body)
        if bad:
            return self.error(403, bad, "refused")
        if bucket != "bucket":
            return self.error(404, "NoSuchBucket")
        if self.key == "-":
            return self.on_bucket(q)
        return getattr(self, "on_" + self.command.lower())(self.key, q, body)

    def on_bucket(self, q):
        prefix = q.get("prefix", "")
        if "uploads" in q:
            with lock:
                rows = sorted((k, i) for i, (k, _, _) in uploads.items() if k.startswith(prefix))
            after = (q.get("key-marker", ""), q.get("upload-id-marker", ""))
            rows = [r for r in rows if r > after]
            page, more = rows[:PAGE], len(rows) > PAGE
            items = "".join(f"<Upload><Key>{escape(k)}</Key><UploadId>{i}</UploadId></Upload>" for k, i in page)
            end = f"<NextKeyMarker>{escape(page[-1][0])}</NextKeyMarker><NextUploadIdMarker>{page[-1][1]}</NextUploadIdMarker>" if more else ""
            return self.answer(200, f"<ListMultipartUploadsResult>{end}<IsTruncated>{str(more).lower()}</IsTruncated>{items}</ListMultipartUploadsResult>")
        with lock:
            keys = sorted(unquote(f) for f in os.listdir(f"{D}/objects"))
        keys = [k for k in keys if k.startswith(prefix) and k > q.get("continuation-token", "")]
        page, more = keys[:PAGE], len(keys) > PAGE
        items = ""
        for k in page:
            data = open(file_of("objects", k), "rb").read()
            etag = json.load(open(file_of("meta", k)))["etag"]
            items += f"<Contents><Key>{escape(k)}</Key><ETag>&quot;{etag}&quot;</ETag><Size>{len(data)}</Size></Contents>"
        if self.fault == "endless":
            more, page = True, ["zzz"]
        end = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        self.answer(200, f"<?xml version='1.0'?><ListBucketResult xmlns='x'><IsTruncated>{str(more).lower()}</IsTruncated>{end}{items}</ListBucketResult>")

    def save(self, key, data, meta, etag):
        with lock:
            for kind, what in (("objects", data), ("meta", json.dumps({"meta": meta, "etag": etag}).encode())):
                with open(f"{D}/new", "wb") as f:
                    f.write(what)
                os.rename(f"{D}/new", file_of(kind, key))

    def on_put(self, key, q, body):
        etag = hashlib.md5(body).hexdigest()
        if "uploadId" in q:
            with lock:
                if q["uploadId"] not in uploads:
                    return self.error(404, "NoSuchUpload")
                uploads[q["uploadId"]][2][int(q["partNumber"])] = body
        else:
            self.save(key, body, self.headers.get("x-amz-meta-muster", ""), etag)
        self.answer(200, headers={"ETag": f'"{etag}"'})

    def on_post(self, key, q, body):
        if "uploads" in q:
            with lock:
                name = f"up{len(uploads)}-{time.time_ns()}+/="
                uploads[name] = (key, self.headers.get("x-amz-meta-muster", ""), {})
            return self.answer(200, f"<InitiateMultipartUploadResult><Key>{escape(key)}</Key><UploadId>{name}</UploadId></InitiateMultipartUploadResult>")
        with lock:
            if q.get("uploadId") not in uploads:
                return self.error(404, "NoSuchUpload")
            _, meta, parts = uploads[q["uploadId"]]
            asked = re.findall(r'<PartNumber>(\d+)</PartNumber><ETag>"(\w+)"</ETag>', body.decode())
            data, sums = b"", b""
            for i, (number, etag) in enumerate(asked):
                part = parts.get(int(number))
                if part is None or hashlib.md5(part).hexdigest() != etag:
                    return self.error(400, "InvalidPart")
                if i + 1 < len(asked) and len(part) < LEAST:
                    return self.error(400, "EntityTooSmall")
                data += part
                sums += bytes.fromhex(etag)
            del uploads[q["uploadId"]]
            self.save(key, data, meta, hashlib.md5(sums).hexdigest() + f"-{len(asked)}")
        self.answer(200, f"<CompleteMultipartUploadResult><Key>{escape(key)}</Key></CompleteMultipartUploadResult>")

    def on_get(self, key, q, body):
        if "uploadId" in q:
            with lock:
                if q["uploadId"] not in uploads:
                    return self.error(404, "NoSuchUpload")
                parts = sorted(uploads[q["uploadId"]][2].items())
            parts = [p for p in parts if p[0] > int(q.get("part-number-marker", 0))]
            page, more = parts[:PAGE], len(parts) > PAGE
            items = "".join(f'<Part><PartNumber>{n}</PartNumber><ETag>"{hashlib.md5(b).hexdigest()}"</ETag><Size>{len(b)}</Size></Part>' for n, b in page)
            end = f"<NextPartNumberMarker>{page[-1][0]}</NextPartNumberMarker>" if more else ""
            return self.answer(200, f"<ListPartsResult>{end}<IsTruncated>{str(more).lower()}</IsTruncated>{items}</ListPartsResult>")
        try:
            data = open(file_of("objects", key), "rb").read()
            meta = json.load(open(file_of("meta", key)))
        except FileNotFoundError:
            return self.error(404, "NoSuchKey") if self.command == "GET" else self.answer(404)
        headers = {"ETag": f'"{meta["etag"]}"'}
        if meta["meta"]:
            headers["X-Amz-Meta-Muster"] = meta["meta"]
        if self.command == "HEAD":
            return self.answer(200, headers=headers, length=len(data))
        m = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if m:
            if int(m[1]) >= len(data):
                return self.error(416, "InvalidRange")
            part = data[int(m[1]) : int(m[2]) + 1]
            headers = {**headers, "Content-Range": f"bytes {m[1]}-{int(m[1]) + len(part) - 1}/{len(data)}"}
            return self.answer(206, part, headers)
        self.answer(200, data, headers)

    on_head = on_get

    def on_delete(self, key, q, body):
        with lock:
            if "uploadId" in q:
                if not uploads.pop(q["uploadId"], None):
                    return self.error(404, "NoSuchUpload")
            else:
                for kind in ("objects", "meta"):
                    try:
                        os.unlink(file_of(kind, key))
                    except FileNotFoundError:
                        pass
        self.answer(204)

    def handle_it(self):
        try:
            self.handle_one()
        except (ConnectionError, BrokenPipeError, OSError):
            self.close_connection = True

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_it


class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request, address):
        pass


server = Server(("127.0.0.1", 0), Handler)
with open(f"{D}/port.new", "w") as f:
    f.write(str(server.server_address[1]))
os.rename(f"{D}/port.new", f"{D}/port")
server.serve_forever()

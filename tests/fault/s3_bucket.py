#!/usr/bin/env python3
"""Makes a bucket: s3_bucket.py NAME, with AWS_ENDPOINT_URL and the key from the environment. A store that is still
coming up says 500 or 503: it is asked for 40 s."""
import hashlib, hmac, http.client, os, sys, time

def put(host, path):
    empty, date = hashlib.sha256(b"").hexdigest(), time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    heads = {"host": host, "x-amz-content-sha256": empty, "x-amz-date": date}
    names, scope = ";".join(heads), f"{date[:8]}/us-east-1/s3/aws4_request"
    canonical = "\n".join(["PUT", path, "", *(f"{k}:{v}" for k, v in heads.items()), "", names, empty])
    key = ("AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"]).encode()
    for part in (*scope.split("/"),
                 "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    heads["Authorization"] = (f"AWS4-HMAC-SHA256 Credential={os.environ['AWS_ACCESS_KEY_ID']}/{scope},"
                              f"SignedHeaders={names},Signature={key.hex()}")
    c = http.client.HTTPConnection(host, timeout=30)
    c.request("PUT", path, headers=heads)
    answer = c.getresponse()
    return answer.status, answer.read().decode()


end = time.monotonic() + 40
while True:
    status, text = put(os.environ["AWS_ENDPOINT_URL"].split("//")[1], "/" + sys.argv[1])
    if status not in (500, 503) or time.monotonic() > end:
        break
    time.sleep(0.3)
print(status, text)
sys.exit(status != 200)

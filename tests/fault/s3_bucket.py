#!/usr/bin/env python3
"""Makes a bucket: s3_bucket.py NAME, with AWS_ENDPOINT_URL and the key from the environment."""
import hashlib, hmac, http.client, os, sys, time

host = os.environ["AWS_ENDPOINT_URL"].split("//")[1]
path, empty, date = "/" + sys.argv[1], hashlib.sha256(b"").hexdigest(), time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
heads = {"host": host, "x-amz-content-sha256": empty, "x-amz-date": date}
names, scope = ";".join(heads), f"{date[:8]}/us-east-1/s3/aws4_request"
canonical = "\n".join(["PUT", path, "", *(f"{k}:{v}" for k, v in heads.items()), "", names, empty])
key = ("AWS4" + os.environ["AWS_SECRET_ACCESS_KEY"]).encode()
for part in (*scope.split("/"), "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])):
    key = hmac.new(key, part.encode(), hashlib.sha256).digest()
heads["Authorization"] = (f"AWS4-HMAC-SHA256 Credential={os.environ['AWS_ACCESS_KEY_ID']}/{scope},SignedHeaders={names},"
                          f"Signature={key.hex()}")
c = http.client.HTTPConnection(host, timeout=30)
c.request("PUT", path, headers=heads)
answer = c.getresponse()
print(answer.status, answer.read().decode())
sys.exit(answer.status != 200)

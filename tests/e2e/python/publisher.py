"""Pusher's server library for Python, driven over lines of JSON: one call in, one outcome out.

Started by harness/python_library.js. The first line says how the client is made, each further one
is `[method, args, keywords]`; the outcome is `{"value": ...}` or `{"error": [class, text]}`.
"""
import json
import os
import sys

import pusher

client = pusher.Pusher(**json.loads(sys.stdin.readline()))
if "E2E_TLS" in os.environ:
    # The library believes its own list of authorities only, in which a test's has no place.
    certificate = os.path.join(os.environ["E2E_TLS"], "certificate.pem")
    client._pusher_client.http.options["verify"] = certificate

for line in sys.stdin:
    method, args, keywords = json.loads(line)
    try:
        outcome = {"value": getattr(client, method)(*args, **keywords)}
    except Exception as error:
        outcome = {"error": [type(error).__name__, str(error)]}
    print(json.dumps(outcome), flush=True)

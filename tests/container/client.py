"""The two ends of a broadcast: a WebSocket client, and Laravel's signed call."""

import base64
import hashlib
import hmac
import json
import os
import socket
import struct
import time
import urllib.error
import urllib.request

HOST, PORT = "127.0.0.1", 8080
WAIT_S = 20


class Client:
    """One connection of an app, established."""

    def __init__(self, key="key-1", port=PORT):
        self.socket = socket.create_connection((HOST, port), WAIT_S)
        nonce = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            (
                f"GET /app/{key}?protocol=7 HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\n"
                "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                f"Sec-WebSocket-Key: {nonce}\r\n\r\n"
            ).encode()
        )
        self.input = self.socket.makefile("rb")
        assert self.input.readline().startswith(b"HTTP/1.1 101 ")
        while self.input.readline() != b"\r\n":
            pass
        assert self.hear()["event"] == "pusher:connection_established"

    def frame(self):
        """The next frame: its opcode and payload."""
        first, length = self.input.read(2)
        if length == 126:
            (length,) = struct.unpack("!H", self.input.read(2))
        return first & 0x0F, self.input.read(length)

    def hear(self):
        opcode, payload = self.frame()
        assert opcode == 1, (opcode, payload)
        return json.loads(payload)

    def close_code(self):
        """The code of the Close frame, whatever comes before it."""
        while True:
            opcode, payload = self.frame()
            if opcode == 8:
                return struct.unpack("!H", payload[:2])[0]

    def subscribe(self, channel):
        text = json.dumps({"event": "pusher:subscribe", "data": {"channel": channel}}).encode()
        assert len(text) < 126
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(text))
        self.socket.sendall(bytes([0x81, 0x80 | len(text)]) + mask + masked)
        assert self.hear()["event"] == "pusher_internal:subscription_succeeded"
        return self

    def close(self):
        self.input.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def listening(port=PORT):
    """Waits until a server listens, for those that cannot be asked for what they said."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        try:
            return socket.create_connection((HOST, port), WAIT_S).close()
        # A reset is by the listener of one that was killed, which its io_uring holds for a moment.
        except (ConnectionRefusedError, ConnectionResetError):
            pass
    raise TimeoutError(f"nobody listens on port {port}")


def publish(channel, event, data, app="app-1", key="key-1", secret="secret-1", port=PORT):
    """Publishes as Laravel does; the status of the answer."""
    body = json.dumps({"name": event, "channels": [channel], "data": data}).encode()
    path = f"/apps/{app}/events"
    query = (
        f"auth_key={key}&auth_timestamp={int(time.time())}&auth_version=1.0"
        f"&body_md5={hashlib.md5(body).hexdigest()}"
    )
    signed = hmac.new(
        secret.encode(), f"POST\n{path}\n{query}".encode(), hashlib.sha256
    ).hexdigest()
    return status(f"{path}?{query}&auth_signature={signed}", body, port)


def status(path, body=None, port=PORT):
    """The status of a request."""
    headers = {"Content-Type": "application/json"} if body else {}
    request = urllib.request.Request(f"http://{HOST}:{port}{path}", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
            return answer.status
    except urllib.error.HTTPError as refused:
        return refused.code

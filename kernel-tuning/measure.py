#!/usr/bin/env python3
"""measure.py SERVER [MEASURE]: what lines of settings.tsv buy. SERVER is the binary, slapback.

MEASURE is burst, ports or silence; without it, all. Each run starts the server in a network namespace
of its own, with one value set in there, and prints a row of a table; nothing outside is changed. Needs
iproute2, util-linux, and for `silence` a /dev/net/tun that may be opened.
"""
import collections
import fcntl
import hashlib
import hmac
import json
import multiprocessing
import os
import resource
import select
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time

PORT = 8080
# Addresses for documentation: no other host can be meant.
HERE, THERE = "198.51.100.1", "198.51.100.2"

BURST_COUNT, BURST_STALL = 2000, 0.3
CALLS = 200
RTT_HALF = 0.025
EVENTS, EVENT_BYTES = 10, 9000
SILENCE, SILENCES = 3.0, 3

HANDSHAKE = (
    f"GET /app/k HTTP/1.1\r\nHost: {HERE}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
).encode()


def main(server, *chosen):
    for measure, values in RUNS.items():
        for value in values:
            if not chosen or measure.__name__ in chosen:
                row = inside(measure.__name__, os.path.abspath(server), *value)
                result = row.stdout.read().strip()
                if row.wait():
                    sys.exit(f"{measure.__name__} failed")
                print(f"| {measure.__name__} | {' '.join(value)} | {result} |", flush=True)


def inside(*arguments, **options):
    """This program in a network namespace of its own, for one part."""
    unshare = ["unshare", "--map-root-user", "--net"]
    command = [*unshare, sys.executable, __file__, "--inside", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options)


def play(part, *arguments):
    """One part, in a network of its own; what it has started ends with it."""
    run("ip", "link", "set", "lo", "up")
    _, files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    parts = {function.__name__: function for function in [*RUNS, subscriber]}
    try:
        print(parts[part](*arguments), flush=True)
    finally:
        for child in started:
            child.kill()


def burst(server, somaxconn):
    """Clients that all come while the shard is busy; how long until each is greeted."""
    sysctl("net/core/somaxconn", somaxconn)
    process = start(server, "127.0.0.1")
    process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    poll, clients, took = select.epoll(), {}, []
    for _ in range(BURST_COUNT):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(("127.0.0.1", PORT))
        poll.register(client, select.EPOLLOUT)
        clients[client.fileno()] = client
    time.sleep(max(0, begun + BURST_STALL - time.monotonic()))
    process.send_signal(signal.SIGCONT)
    while clients:
        for descriptor, what in poll.poll():
            if what == select.EPOLLOUT:
                clients[descriptor].send(HANDSHAKE)
                poll.modify(descriptor, select.EPOLLIN)
            else:
                assert clients[descriptor].recv(4096).startswith(b"HTTP/1.1 101")
                took.append(time.monotonic() - begun)
                poll.unregister(descriptor)
                clients.pop(descriptor).close()
    took.sort()
    late = sum(seconds > 1 for seconds in took)
    late = f"{late} of {BURST_COUNT} later than 1 s"
    return f"half after {middle(took)}, last after {middle(took[-1:])}; {late}"


def ports(server, lowest, highest):
    """Calls by one host, each on a connection of its own, until a free port is hard to find."""
    sysctl("net/ipv4/ip_local_port_range", f"{lowest} {highest}")
    run("ip", "address", "add", f"{HERE}/32", "dev", "lo")
    start(server, HERE)
    request = f"GET /up HTTP/1.1\r\nHost: {HERE}\r\n\r\n".encode()
    costs = []
    while not costs or costs[-1] < 5 * costs[0]:
        begun = time.process_time()
        for _ in range(CALLS):
            with socket.create_connection((HERE, PORT)) as client:
                client.sendall(request)
                assert client.recv(4096).startswith(b"HTTP/1.1 200")
        costs.append((time.process_time() - begun) / CALLS * 1e6)
    count, before = (len(costs) - 1) * CALLS, statistics.median(costs[:-1])
    return f"{count} calls at {before:.0f} µs of its CPU each, the next at {costs[-1]:.0f} µs"


def silence(server, slow_start, congestion):
    """A burst after a silence, over a path of 50 ms; how long until the last of it is there."""
    sysctl("net/ipv4/tcp_slow_start_after_idle", slow_start)
    sysctl("net/ipv4/tcp_congestion_control", congestion)
    here = tunnel(HERE, THERE)
    start(server, HERE)
    own, given = socket.socketpair()
    other = inside("subscriber", str(given.fileno()), pass_fds=[given.fileno()])
    started.append(other)
    _, [there], _, _ = socket.recv_fds(own, 1, 1)
    relay = multiprocessing.Process(target=carry, args=(here, there))
    relay.start()
    started.append(relay)
    assert other.stdout.readline() == "subscribed\n"
    publisher = socket.create_connection((HERE, PORT))
    took = []
    for _ in range(1 + SILENCES):
        took.append(publish_burst(publisher, other.stdout))
        time.sleep(SILENCE)
    return f"{middle(took[1:])} (median of {SILENCES})"


def subscriber(descriptor):
    """The other end of the path: says when it is subscribed, and when it has had each burst."""
    there = tunnel(THERE, HERE)
    socket.send_fds(socket.socket(fileno=int(descriptor)), [b"."], [there])
    client = socket.create_connection((HERE, PORT))
    client.sendall(HANDSHAKE + frame('{"event":"pusher:subscribe","data":{"channel":"a"}}'))
    had = b""
    while b"subscription_succeeded" not in had:
        had += client.recv(65536)
    print("subscribed", flush=True)
    while True:
        had = b""
        while had.count(b'"event":"e"') < EVENTS or len(had) < EVENTS * EVENT_BYTES:
            had += client.recv(65536)
        print(time.monotonic(), flush=True)


def publish_burst(publisher, arrivals):
    """Publishes, and returns the seconds until the subscriber has had the last byte."""
    body = json.dumps({"name": "e", "channel": "a", "data": "x" * EVENT_BYTES})
    digest = hashlib.md5(body.encode()).hexdigest()
    query = f"auth_key=k&auth_timestamp={time.time():.0f}&auth_version=1.0&body_md5={digest}"
    signed = f"POST\n/apps/a/events\n{query}".encode()
    signature = hmac.new(b"s", signed, hashlib.sha256).hexdigest()
    head = f"POST /apps/a/events?{query}&auth_signature={signature} HTTP/1.1\r\nHost: {HERE}\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()
    begun = time.monotonic()
    publisher.sendall(request * EVENTS)
    last = float(arrivals.readline())
    answers = b""
    while answers.count(b"HTTP/1.1 200") < EVENTS:
        answers += publisher.recv(65536)
    return last - begun


def frame(text):
    """A text frame of a client, with a mask of zeros."""
    length = len(text)
    assert length < 126
    return bytes([0x81, 0x80 | length, 0, 0, 0, 0]) + text.encode()


def tunnel(own, other):
    """An interface to a path that this program carries: its packets are read and written here."""
    TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
    descriptor = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", b"path", IFF_TUN | IFF_NO_PI))
    run("ip", "address", "add", own, "peer", other, "dev", "path")
    run("ip", "link", "set", "path", "up")
    return descriptor


def carry(here, there):
    """Brings the packets of each end to the other, late by half a round trip, for ever."""
    across, on_the_way = {here: there, there: here}, collections.deque()
    while True:
        due = on_the_way[0][0] - time.monotonic() if on_the_way else None
        ready, _, _ = select.select(across, [], [], due if due is None else max(0, due))
        now = time.monotonic()
        for end in ready:
            on_the_way.append((now + RTT_HALF, across[end], os.read(end, 65536)))
        while on_the_way and on_the_way[0][0] <= now:
            _, end, packet = on_the_way.popleft()
            os.write(end, packet)


def start(server, host):
    """The server on one shard, once it listens."""
    app = {"REVERB_APP_ID": "a", "REVERB_APP_KEY": "k", "REVERB_APP_SECRET": "s"}
    command = [server, "start", f"--host={host}", f"--port={PORT}"]
    environment = app | {"SLAPBACK_SHARDS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    started.append(process)
    while "Starting server on" not in process.stdout.readline():
        assert process.poll() is None, "the server does not start"
    return process


def sysctl(name, value):
    """Sets what belongs to this network namespace, as everything that is set here."""
    with open(f"/proc/sys/{name}", "w") as file:
        file.write(value)


def run(*command):
    subprocess.run(command, check=True)


def middle(seconds):
    return f"{statistics.median(seconds) * 1000:.0f} ms"


RUNS = {
    burst: [["128"], ["4096"]],
    ports: [["32768", "60999"], ["10240", "65535"]],
    silence: [["1", "reno"], ["0", "reno"], ["1", "bbr"], ["0", "bbr"]],
}

started = []

if sys.argv[1:2] == ["--inside"]:
    play(*sys.argv[2:])
elif len(sys.argv) > 1:
    main(*sys.argv[1:])
else:
    sys.exit(__doc__)

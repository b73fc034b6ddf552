"""Just enough HTTP, server-sent events and WebSocket to be a client, with Python's own library and nothing else."""

import base64
import http.client
import json
import os
import socket
import struct
import time
from urllib.parse import urlsplit

from engine import Failure

# Far above what an answer takes: a busy machine is no failure, silence is.
ANSWER_SECONDS = 15


def eventually(seconds, look):
    """Calls `look` until it returns something true, and returns that; what went wrong last is told at the deadline."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = look()
            problem = f"it returned {found!r}"
        except (OSError, http.client.HTTPException, Failure, ValueError) as error:
            found, problem = None, f"{type(error).__name__}: {error}"
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failure(f"not within {seconds} s; at last {problem}")
        time.sleep(0.2)


def connection(url):
    parts = urlsplit(url)
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    return http.client.HTTPConnection(parts.hostname, parts.port, timeout=ANSWER_SECONDS), target


def call(method, url, body=None):
    """Status, headers, and the body read as JSON (None when it is not)."""
    link, target = connection(url)
    try:
        headers = {"content-type": "application/json"} if body is not None else {}
        link.request(method, target, None if body is None else json.dumps(body), headers)
        answer = link.getresponse()
        raw = answer.read()
    finally:
        link.close()
    try:
        return answer.status, answer.headers, json.loads(raw)
    except ValueError:
        return answer.status, answer.headers, None


def expect(wanted, method, url, body=None):
    """The JSON of an answer that must have this status."""
    status, _, answer = call(method, url, body)
    if status != wanted:
        raise Failure(f"{method} {url} answered {status}, not {wanted}: {answer}")
    return answer


class Events:
    """An open stream of server-sent events; reads those that carry JSON in one data line, as the comments do."""

    def __init__(self, method, url, body=None):
        self.link, target = connection(url)
        headers = {"accept": "text/event-stream", "content-type": "application/json"}
        self.link.request(method, target, None if body is None else json.dumps(body), headers)
        self.answer = self.link.getresponse()
        kind = self.answer.getheader("content-type", "")
        if self.answer.status != 200 or not kind.startswith("text/event-stream"):
            raise Failure(f"{method} {url} answered {self.answer.status} {kind}: {self.answer.read(500)}")

    def next(self):
        while True:
            line = self.answer.readline()
            if not line:
                raise Failure("the stream ended")
            if line.startswith(b"data: "):
                return json.loads(line[len(b"data: "):])

    def close(self):
        self.link.close()


def first_websocket_message(url):
    """Opens a WebSocket and returns its first message, read as JSON."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=ANSWER_SECONDS) as link:
        key = base64.b64encode(os.urandom(16)).decode()
        link.sendall((f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\n"
                      f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n").encode())
        with link.makefile("rb") as stream:
            status = stream.readline().decode().strip()
            if " 101 " not in f"{status} ":
                raise Failure(f"{url} answered {status}")
            while stream.readline().strip():
                pass
            return json.loads(websocket_text(stream))


def websocket_text(stream):
    """The payload of the first text frame; a server's frames are not masked, and other kinds are passed over."""
    while True:
        kind, length = stream.read(2)
        length &= 0x7F
        if length == 126:
            (length,) = struct.unpack(">H", stream.read(2))
        elif length == 127:
            (length,) = struct.unpack(">Q", stream.read(8))
        payload = stream.read(length)
        if kind == 0x81:
            return payload
        if kind & 0x0F == 0x8:
            raise Failure(f"the server closed the WebSocket: {payload}")

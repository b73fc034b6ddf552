"""Clients from PyPI, as their users use them: each connects, is cut, and resumes by the last id that it has."""

import asyncio
import json
import os
import random
import socket
import sys
import threading
import time
import traceback
from urllib.parse import urlsplit

import httpx
import requests
import sseclient
import websockets
from httpx_sse import connect_sse

FRONT = os.environ["LIVERANK_FRONT"]
# The same through nginx, where there is one.
DOORS = {"the front door": FRONT, **({"nginx": url} if (url := os.environ.get("LIVERANK_NGINX")) else {})}
RUN = f"{random.randrange(16**8):08x}"
# Ends of lines for some, and plain characters in JSON.
ODD = "\u2028\u2029\u0085ü"


def post(path, **body):
    """The answer to a post; what a part that is away for a moment answers (503) is posted again."""
    deadline = time.monotonic() + 20
    while (answer := requests.post(f"{FRONT}{path}", timeout=20, **body)).status_code == 503 and time.monotonic() < deadline:
        time.sleep(0.2)
    return answer


def say(video, count):
    texts = [f"comment {random.randrange(10**9)} {ODD}" for _ in range(count)]
    for text in texts:
        body = {"userid": "poster", "videoid": video, "comment": text, "idempotency_key": f"{random.randrange(16**16):016x}"}
        assert post("/comment", json=body).status_code == 201
    return texts


def of_requests(url, headers):
    """requests alone: lines, as its documentation reads streams."""
    with requests.get(url, headers=headers, stream=True, timeout=30) as response:
        assert response.encoding == "utf-8", response.encoding
        event = {}
        for line in response.iter_lines(decode_unicode=True):
            if not line:
                if "data" in event:
                    yield event.get("event", "message"), event.get("id"), event["data"]
                event = {}
            elif not line.startswith(":"):
                name, _, value = line.partition(": ")
                event[name] = value


def of_sseclient(url, headers):
    with requests.get(url, headers=headers, stream=True, timeout=30) as response:
        for event in sseclient.SSEClient(response).events():
            yield event.event, event.id, event.data


def of_httpx_sse(url, headers):
    with httpx.Client(timeout=30) as client, connect_sse(client, "GET", url, headers=headers) as source:
        for event in source.iter_sse():
            yield event.event, event.id, event.data


def resumes(read, door):
    video = f"{read.__name__}-{RUN}-{random.randrange(10**6)}"
    url = f"{door}/connect?userid=viewer&videoid={video}"
    heard, last, said = [], None, []
    for turn in range(3):
        headers = {"Last-Event-ID": last} if last else {}
        if turn:
            said += say(video, 4)  # While nobody listens.
        for kind, event_id, data in read(url, headers):
            last = event_id or last
            message = json.loads(data)
            if message.get("type") == "connected":
                said += say(video, 3)
            else:
                assert kind == "message", (kind, data)
                heard.append(message["comment"])
            if len(heard) >= len(said) and said:
                break  # Cut: the client goes, with its connection.
    assert heard == said, (heard, said)


def half_closed():
    """A client that has asked and has nothing more to say reads on, as `nc -N` does."""
    video = f"half-{RUN}"
    host, port = urlsplit(FRONT).hostname, urlsplit(FRONT).port
    with socket.create_connection((host, port), timeout=30) as stream:
        stream.sendall(f"GET /connect?userid=u&videoid={video} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        stream.shutdown(socket.SHUT_WR)
        text = b""
        while b'"type":"connected"' not in text:
            piece = stream.recv(65536)
            assert piece, text
            text += piece
        time.sleep(3)  # Longer than it takes to find out that a client is gone.
        [said] = say(video, 1)
        while said.split()[1].encode() not in text:
            piece = stream.recv(65536)
            assert piece, text
            text += piece


def websocket_lists(door):
    async def main():
        address = door.replace("http", "ws") + "/ws/videos?limit=500"
        for turn in range(2):
            video = f"python-{RUN}-{turn}-{random.randrange(10**6)}"
            async with websockets.connect(address) as socket:
                pongs = [await socket.ping() for _ in range(10)]
                event = {"video_id": video, "user_id": "u", "type": "view"}
                posted = await asyncio.to_thread(post, "/interact", json=event)
                assert posted.status_code == 202
                while not any(line["video_id"] == video for line in json.loads(await socket.recv())):
                    pass
                for pong in pongs:
                    await pong
                if turn == 0:
                    socket.transport.abort()  # Cut.

    asyncio.run(asyncio.wait_for(main(), 60))


def gzip_body():
    import gzip

    event = json.dumps({"video_id": f"gzip-{RUN}", "user_id": "u", "type": "view"}).encode()
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    assert post("/interact", data=gzip.compress(event), headers=headers).status_code == 202


def tests():
    for where, door in DOORS.items():
        for read in (of_requests, of_sseclient, of_httpx_sse):
            yield f"{read.__name__[3:]} at {where} resumes after cuts and misses nothing", lambda: resumes(read, door)
        if where == "the front door":  # nginx passes no upgrade on unless it is told to.
            yield f"websockets at {where} gets lists, pongs, and lists again after a cut", lambda: websocket_lists(door)
    yield "a half-closed client reads on", half_closed
    yield "a body compressed with gzip is taken", gzip_body


def limited(test, seconds=90):
    """Runs a test; one that hangs fails."""
    failure = ["it hangs"]

    def run():
        try:
            test()
            failure[0] = None
        except BaseException:
            failure[0] = traceback.format_exc()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    return failure[0]


passed = failed = 0
for name, test in tests():
    failure = limited(test)
    print("ok" if failure is None else "not ok", "-", name, flush=True)
    if failure is None:
        passed += 1
    else:
        failed += 1
        print(failure, flush=True)
print(f"{passed} passed, {failed} failed")
sys.stdout.flush()
os._exit(failed != 0)

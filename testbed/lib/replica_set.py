"""One look at a replica set: initiates it when it is new, exits 0 when its running members can work, else 75."""

import sys

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

NOT_YET = 75
ALREADY_INITIALIZED = 23
# One look must be short: the caller looks again, and between looks sees whether the processes still live.
TIMEOUT_MS = 3000
# How long the others wait for a lost primary before they elect one: 10 s by default, which every fault would cost.
ELECTION_TIMEOUT_MS = 4000


def member(host, port):
    """A client of that one member only, whatever its state."""
    return MongoClient(
        host, port, directConnection=True, serverSelectionTimeoutMS=TIMEOUT_MS, socketTimeoutMS=TIMEOUT_MS
    )


def initiate(name, host, ports, advertised):
    """Starts the set with all its members, by the ports that they and clients are to find each other at; another one
    doing the same at once is as good."""
    members = [{"_id": index, "host": f"{host}:{port}"} for index, port in enumerate(advertised)]
    settings = {"electionTimeoutMillis": ELECTION_TIMEOUT_MS}
    config = {"_id": name, "members": members, "settings": settings}
    try:
        member(host, ports[0]).admin.command("replSetInitiate", config)
    except OperationFailure as error:
        if error.code != ALREADY_INITIALIZED:
            raise


def ready(name, host, ports, running, advertised):
    """Whether every running member has its place in the set, and one of them takes writes if a majority runs."""
    states = [member(host, port).admin.command("hello") for port in running]
    if running == ports and not any("setName" in state for state in states):
        initiate(name, host, ports, advertised)
        return False
    if 2 * len(running) <= len(ports):
        return True
    settled = all(state.get("isWritablePrimary") or state.get("secondary") for state in states)
    return settled and any(state.get("isWritablePrimary") for state in states)


def main():
    name, host, *lists = sys.argv[1:]
    ports, running, advertised = ([int(port) for port in ports.split()] for ports in lists)
    try:
        sys.exit(0 if ready(name, host, ports, running, advertised) else NOT_YET)
    except PyMongoError:
        # Not listening yet, or between two states: the caller's deadline decides how long that may last.
        sys.exit(NOT_YET)


main()

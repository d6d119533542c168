"""Somebody else who uses the API: `python -m bench._prober PORT TOKEN NAMESPACE` asks and asks until stdin ends, then prints how long it took.

One connection, one request at a time, a short pause after each: GET of an Agent, LIST of twenty, POST of a ConfigMap, each answer
read whole. It prints `ready` after its first round, and at the end the milliseconds of each request by kind, as JSON.
"""

import json
import socket
import sys
import threading
import time

_PAUSE = 0.005


def main(port: int, token: str, namespace: str) -> None:
    """Probe until standard input ends."""
    agents = f"/apis/mastra.ai/v1/namespaces/{namespace}/agents"
    over = threading.Event()

    def listen() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=listen, daemon=True).start()
    took: dict[str, list[float]] = {"GET": [], "LIST": [], "POST": []}
    rounds = 0
    with socket.create_connection(("127.0.0.1", port)) as connection:
        stream = connection.makefile("rb")

        def ask(kind: str, method: str, path: str, body: bytes = b"") -> None:
            head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n"
            if body:
                head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
            began = time.perf_counter()
            connection.sendall(head.encode() + b"\r\n" + body)
            status, length = int(stream.readline().split()[1]), 0
            while (line := stream.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            answer = stream.read(length)
            took[kind].append((time.perf_counter() - began) * 1000)
            assert status in (200, 201), answer
            time.sleep(_PAUSE)

        while not over.is_set():
            ask("GET", "GET", f"{agents}/agent-{rounds % 100}")
            ask("LIST", "GET", f"{agents}?limit=20")
            name = {"name": f"probe-{rounds}"}
            note = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": name, "data": {"n": str(rounds)}})
            ask("POST", "POST", f"/api/v1/namespaces/{namespace}/configmaps", note.encode())
            rounds += 1
            if rounds == 1:
                for found in took.values():
                    found.clear()
                print("ready", flush=True)
    print(json.dumps(took), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])

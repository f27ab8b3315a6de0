"""The other side: accepts one connection on the given address and says so. Ends with its standard input."""

import socket
import sys
import threading


def accept(server):
    connection, peer = server.accept()
    print(f"listener: a connection from {peer[0]}", flush=True)
    connection.close()


sys.stdin.readline()  # The address is not there before the pair of interfaces is.
server = socket.create_server((sys.argv[1], int(sys.argv[2])))
threading.Thread(target=accept, args=(server,), daemon=True).start()
print("ready", flush=True)
sys.stdin.read()

"""Runs attempts on the network, one after another: JSON in, JSON out.

Each attempt is an object with "op" and its arguments, see the functions below.
Each result has "ok", and "data" (what came back) or "err" (the kind of error).
"""
import errno, json, socket, ssl, struct, sys

LIMIT = 8  # seconds: nothing here takes that long unless it is left to hang


def endpoint(a, kind):
    family, _, _, _, addr = socket.getaddrinfo(a["to"], a["port"], type=kind)[0]
    s = socket.socket(family, kind)
    s.settimeout(a.get("limit", LIMIT))
    return s, addr


def tcp(a):
    """Connects, says something, and reads until something is there."""
    s, addr = endpoint(a, socket.SOCK_STREAM)
    with s:
        s.connect(addr)
        s.sendall(a.get("say", "").encode("latin-1"))
        data = s.recv(4096).decode("latin-1")
        if not data:
            raise Refused("closed")
        return data


def request(a):
    return ("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (
        a.get("path", "/"), a.get("host") or a["to"])).encode("latin-1")


def response(s):
    data = b""
    while True:
        more = s.recv(65536)
        if not more:
            break
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    status = int((head.split() + [b"0", b"0"])[1])
    text = "%d %s" % (status, body.decode("latin-1")[:400])
    if status != 200:
        raise Refused(text)
    return text


class Refused(Exception):
    pass


def http(a):
    s, addr = endpoint(a, socket.SOCK_STREAM)
    with s:
        s.connect(addr)
        s.sendall(request(a))
        return response(s)


def tls(a):
    """HTTPS with any SNI ("sni", or none) and any Host."""
    s, addr = endpoint(a, socket.SOCK_STREAM)
    c = ssl._create_unverified_context()
    with s:
        s.connect(addr)
        with c.wrap_socket(s, server_hostname=a.get("sni") or None) as t:
            t.sendall(request(a))
            return response(t)


def udp(a):
    s, addr = endpoint(a, socket.SOCK_DGRAM)
    with s:
        s.connect(addr)
        s.send(a.get("say", "ping").encode("latin-1"))
        return s.recv(4096).decode("latin-1")


def qname(labels):
    return b"".join(bytes([len(l)]) + l for l in labels) + b"\0"


def dns(a):
    """Asks a server: "labels" in latin-1 (or "raw", hex, for a whole message),
    "type" as a number, "over" udp, tcp or tls. The data is the code of the
    answer and what it holds of addresses and texts."""
    q = bytes.fromhex(a["raw"]) if "raw" in a else struct.pack(">6H", 0x1234, 0x100, 1, 0, 0, 0) + qname(
        [l.encode("latin-1") for l in a["labels"]]) + struct.pack(">2H", a.get("type", 1), 1)
    over = a.get("over", "udp")
    s, addr = endpoint({"to": "192.168.127.1", "port": 53} | a,
                       socket.SOCK_DGRAM if over == "udp" else socket.SOCK_STREAM)
    with s:
        s.connect(addr)
        if over == "udp":
            s.send(q)
            m = s.recv(65535)
        else:
            s.sendall(struct.pack(">H", len(q)) + q)
            f = s.makefile("rb")
            head = f.read(2)
            if len(head) < 2:
                raise ConnectionResetError(errno.ECONNRESET, "")
            m = f.read(struct.unpack(">H", head)[0])
    code, answers = m[3] & 15, struct.unpack(">H", m[6:8])[0]
    if code or not answers:
        raise Refused("rcode=%d answers=%d" % (code, answers))
    return "rcode=0 answers=%d %s" % (answers, m[12:].hex())


def lookup(a):
    return " ".join(sorted({i[4][0] for i in socket.getaddrinfo(a["to"], 0, type=socket.SOCK_STREAM)}))


def checksum(b):
    b += b"\0" * (len(b) % 2)
    n = sum(struct.unpack(">%dH" % (len(b) // 2), b))
    while n >> 16:
        n = (n & 0xffff) + (n >> 16)
    return ~n & 0xffff


def packet(src, dst, proto, payload):
    h = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, proto, 0) + src + dst
    return h[:10] + struct.pack(">H", checksum(h)) + h[12:] + payload


def transport(src, dst, proto, port):
    """A connect, a datagram or a ping, with its sum."""
    if proto == 17:
        p, at = struct.pack(">4H", 4321, port, 15, 0) + b"spoofed", 6
    elif proto == 6:
        p, at = struct.pack(">2H2LBBHHH", 4321, port, 1, 0, 5 << 4, 2, 65535, 0, 0), 16
    else:
        p, at = struct.pack(">BBHHH", 128 if len(src) == 16 else 8, 0, 0, 1, 1), 2
    pseudo = b"" if proto == 1 else src + dst + struct.pack(">LL", len(p), proto)
    return p[:at] + struct.pack(">H", checksum(pseudo + p)) + p[at + 2:]


def spoof(a):
    """Sends a packet with addresses of its own choice; in IPv6 the guest kernel
    fills in the source. That it could be sent says nothing: who gets it does."""
    family = socket.AF_INET6 if ":" in a["to"] else socket.AF_INET
    proto = {"tcp": 6, "udp": 17, "icmp": 58 if ":" in a["to"] else 1}[a["proto"]]
    src, dst = socket.inet_pton(family, a["src"]), socket.inet_pton(family, a["to"])
    payload = transport(src, dst, proto, a.get("port", 0))
    whole = family == socket.AF_INET
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW if whole else proto) as s:
        s.sendto(packet(src, dst, proto, payload) if whole else payload, (a["to"], 0))
    return "sent"


def raw(a):
    """Sends bytes as an IP packet ("hex") or with an IP protocol number."""
    if a.get("protocol"):
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, a["protocol"]) as s:
            s.sendto(bytes.fromhex(a["hex"]), (a["to"], 0))
    else:
        with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as s:
            s.sendto(bytes.fromhex(a["hex"]), (a["to"], 0))
    return "sent"


def frames(a):
    """Sends bytes as ethernet frames. A system that does not let even root do
    so says EPERM or the like."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)) as s:
        s.bind(("eth0", 0))
        n = 0
        for f in a["hex"]:
            n += s.send(bytes.fromhex(f)) > 0
    return "sent %d" % n


def flood(a):
    """Begins many connections ("count"), prints how many came to what, and keeps
    them until its input ends. With "batch" it has no more than so many that are
    not yet decided, and waits for the last ones."""
    import resource, select, time
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kept, came, poll = {}, {}, select.epoll()
    batch, end = a.get("batch"), time.monotonic() + 240

    def count(e):
        name = errno.errorcode.get(e, str(e)) if e else "connected"
        came[name] = came.get(name, 0) + 1

    def decided(limit):
        while came.get("EINPROGRESS", 0) > limit and time.monotonic() < end:
            for fd, _ in poll.poll(1):
                came["EINPROGRESS"] -= 1
                count(kept[fd].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    for i in range(a["count"]):
        to = a["net"].format(i // 250 % 250 + 1, i % 250 + 1)
        s = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        s.setblocking(False)
        kept[s.fileno()] = s
        count(s.connect_ex((to, a["port"])))
        if batch:
            poll.register(s, select.EPOLLOUT | select.EPOLLONESHOT)
            decided(batch)
    if batch:
        decided(0)
    print(json.dumps(came), flush=True)
    sys.stdin.readline()
    return "released"


def ping(a):
    """Pings by a raw socket, which hears of refusals too."""
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as s:
        s.settimeout(LIMIT)
        head, say = struct.pack(">BBHHH", 8, 0, 0, 4711, 1), b"ping"
        s.sendto(head[:2] + struct.pack(">H", checksum(head + say)) + head[4:] + say, (a["to"], 0))
        while True:
            p, (source, _) = s.recvfrom(4096)
            p = p[(p[0] & 15) * 4:]
            if p[0] == 0 and source == a["to"]:
                return p[8:].decode("latin-1")
            if p[0] == 3 and socket.inet_ntoa(p[24:28]) == a["to"]:
                raise Refused("unreachable, code %d" % p[1])


def attempt(a):
    try:
        return {"ok": True, "data": globals()[a["op"]](a)}
    except socket.timeout:
        return {"ok": False, "err": "timeout"}
    except Refused as e:
        return {"ok": False, "err": str(e)}
    except socket.gaierror as e:
        return {"ok": False, "err": "gai " + str(e)}
    except ssl.SSLError as e:
        return {"ok": False, "err": "tls " + str(e)}
    except OSError as e:
        return {"ok": False, "err": errno.errorcode.get(e.errno, str(e))}


json.dump([attempt(a) for a in json.loads(sys.argv[1])], sys.stdout)

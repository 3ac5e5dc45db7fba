"""Options: the forms they take, and what is refused, without any server."""

from __future__ import annotations

import pathlib

import pytest

import boxlite


def wire(local: bool = True, **options) -> dict:
    return boxlite.BoxOptions(**options)._wire(local=local)


def test_defaults():
    assert wire() == {"detach": False, "auto_remove": True}
    assert wire(image="alpine:latest", auto_remove=False) == {"image": "alpine:latest", "detach": False}


@pytest.mark.parametrize(
    ("volume", "read_only"),
    [
        (("/h", "/g"), False),
        (("/h", "/g", "ro"), True),
        (("/h", "/g", "rw"), False),
        (("/h", "/g", True), True),
        (("/h", "/g", False), False),
        ([pathlib.Path("/h"), "/g", "ro"], True),
        ({"host": "/h", "guest": "/g"}, False),
        ({"host_path": "/h", "guest_path": "/g", "read_only": True}, True),
        ({"host": "/h", "guest": "/g", "ro": True}, True),
    ],
)
def test_volumes(volume, read_only):
    assert wire(volumes=[volume])["volumes"] == [{"host_path": "/h", "guest_path": "/g", "read_only": read_only}]


def test_a_relative_path_means_this_host(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    options = boxlite.BoxOptions(volumes=[("data", "/g")], rootfs_path="root")
    assert options._wire(local=True)["volumes"][0]["host_path"] == str(tmp_path / "data")
    assert options._wire(local=True)["rootfs_path"] == str(tmp_path / "root")
    assert options._wire(local=False)["volumes"][0]["host_path"] == "data"


@pytest.mark.parametrize(
    ("volume", "why"),
    [
        (("/h",), "give"),
        (("/h", "/g", "ro", "x"), "give"),
        ("/h:/g", "give"),
        (("/h", "/g", "readonly"), "neither"),
        (("/h", "/g", 1), "neither"),
        (("/h", "/g", None), "neither"),
        ((1, "/g"), "no path"),
        (("/h", None), "missing"),
        ({"guest": "/g"}, "one of"),
        ({"host": "/h", "managed_volume": "v", "guest": "/g"}, "one of"),
        ({"host": "/h", "guest": "/g", "mode": "ro"}, "unknown key 'mode'"),
    ],
)
def test_volumes_that_make_no_sense(volume, why):
    with pytest.raises(boxlite.InvalidArgumentError, match=f"^invalid argument: volume .*{why}"):
        boxlite.BoxOptions(volumes=[volume])


@pytest.mark.parametrize(
    ("port", "want"),
    [
        ((8080, 80), {"host_port": 8080, "guest_port": 80}),
        ((8080, 80, "tcp"), {"host_port": 8080, "guest_port": 80, "protocol": "tcp"}),
        (
            (8080, 80, "udp", "0.0.0.0"),
            {"host_port": 8080, "guest_port": 80, "protocol": "udp", "host_ip": "0.0.0.0"},
        ),
        ({"guest_port": 80}, {"host_port": 0, "guest_port": 80}),
        (
            {"guest": 80, "host": 81, "host_ip": "::1"},
            {"host_port": 81, "guest_port": 80, "host_ip": "::1"},
        ),
    ],
)
def test_ports(port, want):
    assert wire(ports=[port])["ports"] == [want]


@pytest.mark.parametrize("port", [80, (80,), (1, 0), (1, 65536), ("1", 2), (True, 1), (1, 2, "sctp"), {"port": 1}])
def test_ports_that_make_no_sense(port):
    with pytest.raises(boxlite.InvalidArgumentError, match="^invalid argument: port "):
        boxlite.BoxOptions(ports=[port])


def test_environment():
    want = {"A": "1", "B": "2"}
    assert wire(env=[("A", "0"), ("B", "2"), ("A", "1")])["env"] == wire(env=want)["env"] == want
    for bad in ([("A=", "1")], [("", "1")], [("A", "\0")], [("A", 1)], ["AB"], [("A",)]):
        with pytest.raises(boxlite.InvalidArgumentError, match="^invalid argument: env "):
            wire(env=bad)


def test_security_presets():
    none = (None,) * 5
    for preset, jailed, close_fds, limits, sent in (
        (boxlite.SecurityOptions.development(), False, False, none, None),
        (boxlite.SecurityOptions.standard(), True, True, none, None),
        (
            boxlite.SecurityOptions.maximum(),
            True,
            True,
            (1024, 1 << 30, 100, None, None),
            {"max_open_files": 1024, "max_file_size": 1 << 30, "max_processes": 100},
        ),
    ):
        assert (preset.jailer_enabled, preset.seccomp_enabled) == (jailed, jailed)
        assert (preset.close_fds, preset.network_enabled) == (close_fds, True)
        got = (preset.max_open_files, preset.max_file_size, preset.max_processes)
        assert (*got, preset.max_memory, preset.max_cpu_time) == limits
        assert wire(security=preset).get("security") == sent
    assert boxlite.SecurityOptions.maximum() is not boxlite.SecurityOptions.maximum()


def test_security_may_be_given_in_two_places():
    security = boxlite.SecurityOptions.maximum()
    security.max_open_files = 2048
    security.network_enabled = False
    advanced = boxlite.AdvancedBoxOptions(security=security)
    assert wire(advanced=advanced) == wire(security=security)
    assert wire(security=security)["security"]["network_enabled"] is False
    with pytest.raises(boxlite.InvalidArgumentError, match="give one"):
        wire(security=security, advanced=advanced)
    for bad in (0, -1, True, "100", 1.5):
        with pytest.raises(boxlite.InvalidArgumentError, match="security.max_memory"):
            wire(security=boxlite.SecurityOptions(max_memory=bad))


def test_health_check():
    def advanced(*args, **more) -> dict:
        health = boxlite.HealthCheckOptions(*args)
        return wire(advanced=boxlite.AdvancedBoxOptions(health_check=health, **more))["advanced"]

    assert advanced() == {"health_check": {"interval": 30, "timeout": 10, "retries": 3, "start_period": 60}}
    both = advanced(5, 1, 2, 0, capabilities=boxlite.ContainerCapabilities(drop=["ALL"]))
    assert both["health_check"] == {"interval": 5, "timeout": 1, "retries": 2, "start_period": 0}
    assert both["capabilities"] == {"add": [], "drop": ["ALL"]}
    assert "advanced" not in wire(advanced=boxlite.AdvancedBoxOptions())
    for place, name in enumerate(("interval", "timeout", "retries", "start_period")):
        for bad in (True, "5", 1.5, None):
            given = [5, 5, 5, 5]
            given[place] = bad
            with pytest.raises(
                boxlite.InvalidArgumentError, match=rf"^invalid argument: advanced\.health_check\.{name} "
            ):
                advanced(*given)


def test_lifetimes():
    assert "auto_remove" not in wire(auto_delete=0)
    assert wire(auto_delete=5)["auto_remove"] is True
    remote = wire(local=False, auto_delete=5)
    assert remote["auto_delete"] == 5 and "auto_remove" not in remote
    assert wire(detach=True, auto_remove=False)["detach"] is True
    for options in ({"detach": True}, {"detach": True, "auto_delete": 1}, {"detach": True, "auto_remove": True}):
        with pytest.raises(RuntimeError, match="^invalid argument: remove-on-stop is incompatible with detach=true"):
            wire(**options)
    with pytest.raises(boxlite.InvalidArgumentError, match="auto_stop"):
        wire(auto_stop=-1)


def test_options_may_be_changed_until_the_box_is_created():
    options = boxlite.BoxOptions(image="a", cpus=1)
    options.image, options.cpus, options.rootfs_path = "b", 2, ""
    assert options._wire(local=True) == {"image": "b", "cpus": 2, "detach": False, "auto_remove": True}
    options.rootfs_path = "/root"
    assert "image" not in options._wire(local=True)
    assert "image='b'" in repr(options)
    options.volumes, options.ports = [("/h", "/g", "ro")], [(80, 8080)]
    assert options._wire(local=True)["volumes"] == [{"host_path": "/h", "guest_path": "/g", "read_only": True}]
    assert options._wire(local=True)["ports"] == [{"guest_port": 8080, "host_port": 80}]


def test_network():
    assert wire(network=boxlite.NetworkSpec())["network"] == {"outbound": {"mode": "enabled"}}
    flat = boxlite.NetworkSpec("enabled", ["example.com"])
    split = boxlite.NetworkSpec(outbound=boxlite.NetworkDirection(allow_net=["example.com"]))
    assert flat._wire() == split._wire() == {"outbound": {"mode": "enabled", "allow_net": ["example.com"]}}
    assert (flat.mode, flat.allow_net) == ("enabled", ["example.com"])
    both = boxlite.NetworkSpec("disabled", inbound=boxlite.NetworkDirection("disabled"))
    assert both._wire() == {"outbound": {"mode": "disabled"}, "inbound": {"mode": "disabled"}}


@pytest.mark.parametrize(
    "make",
    [
        lambda: boxlite.NetworkSpec("off"),
        lambda: boxlite.NetworkSpec("disabled", ["example.com"]),
        lambda: boxlite.NetworkSpec("enabled", outbound=boxlite.NetworkDirection()),
        lambda: boxlite.NetworkSpec(inbound=boxlite.NetworkDirection(allow_net=["a"])),
    ],
)
def test_networks_that_make_no_sense(make):
    with pytest.raises(boxlite.InvalidArgumentError, match="^invalid argument: network"):
        make()


def test_a_text_is_no_list_and_no_network():
    for make in (
        lambda: boxlite.NetworkSpec("enabled", "example.com"),
        lambda: boxlite.BoxOptions(network="enabled"),
        lambda: boxlite.BoxOptions(allow_net=["a"]),
        lambda: wire(cmd="sh"),
        lambda: boxlite.BoxOptions("alpine"),
    ):
        with pytest.raises(TypeError):
            make()


def test_secrets_are_not_shown():
    secret = boxlite.Secret("api", "hunter2-hunter2", ["example.com"])
    assert "hunter2" not in repr(secret) + repr(boxlite.BoxOptions(secrets=[secret]))
    assert secret.get_placeholder() == "<BOXLITE_SECRET:api>"
    assert wire(secrets=[secret])["secrets"] == [
        {
            "name": "api",
            "value": "hunter2-hunter2",
            "hosts": ["example.com"],
            "placeholder": "<BOXLITE_SECRET:api>",
        }
    ]
    assert boxlite.Secret("a", "b", placeholder="c").get_placeholder() == "c"


def test_registries():
    for options, message in (
        ({"host": ""}, "image registry host is required"),
        ({"host": "https://x/y"}, "image registry host must be host[:port], not a URL: https://x/y"),
        ({"host": "x", "transport": "ftp"}, "unsupported registry transport: ftp"),
        ({"host": "x", "username": "a"}, "registry username and password must be provided together"),
        ({"host": "x", "password": "a"}, "registry username and password must be provided together"),
    ):
        with pytest.raises(RuntimeError) as e:
            boxlite.ImageRegistry(**options)
        assert str(e.value) == message
    registry = boxlite.ImageRegistry("r:5000", "http", search=True, username="u", password="hunter2", bearer_token="t")
    assert "hunter2" not in repr(registry)
    assert registry._wire()["auth"] == {"type": "bearer", "token": "t"}


def test_where_a_server_is(monkeypatch):
    monkeypatch.delenv("BOXLITE_REST_URL", raising=False)
    with pytest.raises(boxlite.ConfigError, match="BOXLITE_REST_URL"):
        boxlite.BoxliteRestOptions.from_env()
    monkeypatch.setenv("BOXLITE_REST_URL", "http://localhost:1")
    monkeypatch.setenv("BOXLITE_API_KEY", "key-of-this-test")
    monkeypatch.setenv("BOXLITE_REST_PREFIX", "old")
    options = boxlite.BoxliteRestOptions.from_env()
    assert (options.url, options.path_prefix) == ("http://localhost:1", "old")
    monkeypatch.setenv("BOXLITE_REST_PATH_PREFIX", "new")
    assert boxlite.BoxliteRestOptions.from_env().path_prefix == "new"
    assert options.credential.get_token() == boxlite.AccessToken("key-of-this-test")
    assert "key-of-this-test" not in repr(options) + repr(options.credential) + repr(options.credential.get_token())
    monkeypatch.delenv("BOXLITE_API_KEY")
    assert boxlite.ApiKeyCredential.from_env() is None
    for bad in ("", "a b", "a\nb", "ä"):
        with pytest.raises(boxlite.ConfigError):
            boxlite.ApiKeyCredential(bad)
    wrong = (
        "localhost:1|ftp://x|http://|http://x:99999|http://[::1|unix://x/y|unix://|http://x?y|https://x#y|http://x/ y"
    )
    for url in ("", "http://user:secret@x", "http://secret@[::1", *wrong.split("|")):
        with pytest.raises(boxlite.ConfigError, match="^configuration error: ") as e:
            boxlite.Boxlite.rest(boxlite.BoxliteRestOptions(url))
        assert "secret" not in str(e.value)
    for prefix in ("a b", "a\r\nHost: x", "ä", "a?b", "#"):
        with pytest.raises(boxlite.ConfigError, match="path_prefix"):
            boxlite.Boxlite.rest(boxlite.BoxliteRestOptions("http://x", path_prefix=prefix))


def test_anything_with_a_token_is_a_credential():
    @boxlite.Credential.register
    class Mine:
        def get_token(self):
            return boxlite.AccessToken("x")

    assert isinstance(Mine(), boxlite.Credential)
    with pytest.raises(TypeError):
        boxlite.Credential()
